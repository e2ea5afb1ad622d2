"""Write a model worker in Python, from the standard library alone.

    import hasup

    class Shout(hasup.Worker):
        def infer(self, request):
            return bytes(request.body).upper()

    hasup.serve(Shout())

hasupd starts the program, gives it requests, and starts it again when it dies.
"""
from ._openai import Completion, Message
from ._serve import Error, Progress, Reply, Request, ResumeAt, Worker, serve

__all__ = ["Completion", "Error", "Message", "Progress", "Reply", "Request", "ResumeAt", "Worker", "serve"]
__version__ = "0.1.0"
