"""The server: bundles in, HTTP predictions out.

run.py            serve(paths): load bundles, hold the port, run until told to stop
app.py            create_app(bundles): the endpoints
models.py         the bundles being served: choosing one, warming it up, running it
reading.py        request bodies -> raw inputs, within limits
replies.py        answers and errors as JSON
middleware.py     request ids, access log, measurements, the body limit
observability.py  JSON logs, Prometheus metrics, system health
schemas.py        what requests and answers look like, for the OpenAPI document
api_document.py   API.md from the OpenAPI document
docs.html         the page at /docs
"""
