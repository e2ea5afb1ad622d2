"""Write a model worker in Python, from the standard library alone.

    import hasup

    class Shout(hasup.Worker):
        def infer(self, request):
            return bytes(request.body).upper()

    hasup.serve(Shout())

hasupd starts the program, gives it requests, and starts it again when it dies.
"""
from ._log import about
from ._oip import Infer, Signature, Tensor, TensorSpec
from ._openai import Completion, Message
from ._serve import serve
from ._worker import Error, Progress, Reply, Request, ResumeAt, Worker

__all__ = ["Completion", "Error", "Infer", "Message", "Progress", "Reply", "Request", "ResumeAt", "Signature", "Tensor",
           "TensorSpec", "Worker", "about", "serve"]
__version__ = "0.1.0"
