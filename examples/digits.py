#!/usr/bin/python3
"""Reads handwritten digits, 8 by 8 pixels of 0 to 16, with scikit-learn.

POST /v2/models/digits-py/infer   one input "image", FP32, shape [n, 64] (Open Inference Protocol)
"""
import os
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.svm import SVC

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "worker", "python"))
import hasup

PIXELS = 64


class Digits(hasup.Worker):
    max_batch = 64
    signature = hasup.Signature(
        platform="scikit-learn",
        inputs=[hasup.TensorSpec("image", "FP32", [-1, PIXELS])],
        outputs=[hasup.TensorSpec("digit", "INT64", [-1])])

    def load(self):
        """Learns from the rows that examples/data/digits_held_out.csv does not hold; takes 0.1 s."""
        digits = load_digits()
        known = np.arange(len(digits.target)) % 5 != 4
        self.model = SVC(gamma=0.001, C=10).fit(digits.data[known], digits.target[known])

    def infer_batch(self, requests):
        """The images of all that came together in one prediction."""
        asked = [hasup.Infer(request) for request in requests]  # where one of them is wrong, each runs alone
        images = [one["image"].numpy() for one in asked]
        ends = np.cumsum([len(image) for image in images])
        digits = self.model.predict(np.concatenate(images)) if ends[-1] else np.empty(0, np.int64)
        return [one.answer({"digit": own}) for one, own in zip(asked, np.split(digits, ends[:-1]))]


if __name__ == "__main__":
    hasup.serve(Digits())
