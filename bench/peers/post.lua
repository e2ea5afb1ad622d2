-- What wrk sends to every server alike.
wrk.method = "POST"
wrk.body = string.rep("b", 128)
wrk.headers["Content-Type"] = "application/octet-stream"
