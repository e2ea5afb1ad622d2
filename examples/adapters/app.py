"""An HTTP model server that knows nothing of hasup: a WSGI application, run by gunicorn.

    POST /predict   {"x": [numbers]} -> {"mean", "max", "pid"}
    GET  /report    a longer text, part by part
    POST /orders    takes effect, so it must not run twice
"""
import itertools
import json
import os

ORDERS = itertools.count(1)


def predict(body):
    numbers = [float(x) for x in json.loads(body)["x"]]
    return {"mean": sum(numbers) / len(numbers), "max": max(numbers), "pid": os.getpid()}


def report():
    for line in range(1, 101):
        yield f"line {line} of the report\n".encode()


def application(environ, start_response):
    route = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    if route == "GET /report":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return report()
    status, answer = "404 Not Found", {"error": "no such path"}
    if route == "POST /orders":
        status, answer = "201 Created", {"order": next(ORDERS)}
    if route == "POST /predict":
        try:
            status, answer = "200 OK", predict(environ["wsgi.input"].read())
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            status, answer = "400 Bad Request", {"error": str(error)}
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
