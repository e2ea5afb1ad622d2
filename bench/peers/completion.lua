-- A completion's body, for a model that answers it as it came.
wrk.method = "POST"
wrk.body = '{"model": "echo", "prompt": "' .. string.rep("the light of the lamp ", 5) .. '", "max_tokens": 16}'
wrk.headers["Content-Type"] = "application/json"
