"""API.md: the OpenAPI document as a page people read. `python -m maquette.serve.api_document`.

The page is made from a server without models, so it is the same on every machine; its examples
are those of Iris. A server with models describes and exemplifies its own at /docs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maquette.files import write_text
from maquette.serve.app import create_app
from maquette.serve.replies import ERRORS

INTRODUCTION = """# API

Made from the server's OpenAPI document by `python -m maquette.serve.api_document API.md`.

`maquette serve RUN` answers at `http://127.0.0.1:8000`. Its page `/docs` describes the models it
serves and lets you try them; `/openapi.json` is the same for programs.
"""


def render_api() -> str:
    """Return the text of API.md."""
    spec = create_app([]).openapi()
    lines = [INTRODUCTION, spec["info"]["description"], ""]
    lines += _table_of_endpoints(spec)
    for path, method, operation in _operations(spec):
        lines += _endpoint(path, method, operation, spec)
    lines += _error_format(spec)
    return "\n".join(lines).rstrip() + "\n"


def _operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _table_of_endpoints(spec: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{method.upper()} {path}` | {operation['description']} |"
        for path, method, operation in _operations(spec)
    ]
    return ["| endpoint | what it does |", "| --- | --- |", *rows, ""]


def _endpoint(path: str, method: str, operation: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    lines = [f"## {method.upper()} {path}", "", operation["description"], ""]
    for parameter in operation.get("parameters", []):
        told = parameter.get("description", "The name of a served model.")
        lines += [f"`{parameter['name']}` (in the {parameter['in']}): {told}", ""]
    lines += _request(path, operation)
    lines += _answer(operation["responses"]["200"], spec)
    lines += _errors(operation["responses"])
    return lines


def _request(path: str, operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    lines = []
    if "application/json" in content:
        for example in content["application/json"]["examples"].values():
            body = json.dumps(example["value"])
            command = f"curl -H 'Content-Type: application/json' -d '{body}' {_url(path)}"
            lines += [f"{example['summary']}:", "", *_block(command, "sh")]
    elif content:
        form, raw = f"curl -F file=@photo.jpg {_url(path)}", "--data-binary @photo.png"
        raw = f"curl -H 'Content-Type: image/png' {raw} {_url(path)}"
        lines += ["As a form (repeat `file` for several images), or one image as the body:", ""]
        lines += _block(f"{form}\n{raw}", "sh")
    return lines


def _answer(response: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    """The fields of a JSON answer, or what the document says of another."""
    content = response.get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref")
    if reference is None:
        kinds = " or ".join(f"`{kind}`" for kind in content)
        return [f"Answers {kinds}: {response['description']}", ""]
    return _fields(reference, spec)


def _fields(reference: str, spec: dict[str, Any]) -> list[str]:
    schema = _resolve(reference, spec)
    lines = [f"Answers `application/json`: {schema['description']}", ""]
    lines += ["| field | type | |", "| --- | --- | --- |"]
    for name, part in schema["properties"].items():
        lines.append(f"| `{name}` | {_type(part)} | {part.get('description', '')} |")
    lines.append("")
    for part in schema["properties"].values():
        inner = part.get("items", {}).get("$ref")
        if inner:
            lines += [f"Each of the {inner.rpartition('/')[2]}s:".lower().capitalize(), ""]
            lines += _fields(inner, spec)[2:]
    if "example" in schema:
        ordered = {name: schema["example"][name] for name in schema["properties"]}
        lines += _block(json.dumps(ordered), "json")
    return lines


def _error_format(spec: dict[str, Any]) -> list[str]:
    words = [f"| {status} | `{word}` |" for status, word in ERRORS.items()]
    lines = ["## Errors", "", *_fields("#/components/schemas/Error", spec)[2:]]
    return [*lines, "| status | `error` |", "| --- | --- |", *words, ""]


def _errors(responses: dict[str, Any]) -> list[str]:
    rows = [
        f"| {status} | {response['description']} |"
        for status, response in responses.items()
        if status != "200"
    ]
    return ["| error | when |", "| --- | --- |", *rows, ""] if rows else []


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"].rpartition("/")[2].lower())
    if "anyOf" in part:
        return " or ".join(_type(option) for option in part["anyOf"])
    if part.get("type") == "array":
        return f"list of {_type(part['items'])}"
    if "const" in part or "enum" in part:
        return " or ".join(f'`"{value}"`' for value in part.get("enum", [part.get("const")]))
    return str(part.get("type", "any"))


def _resolve(reference: str, spec: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = spec["components"]["schemas"][reference.rpartition("/")[2]]
    return schema


def _url(path: str) -> str:
    return f"http://127.0.0.1:8000{path}"


def _block(text: str, language: str) -> list[str]:
    return [f"```{language}", *text.splitlines(), "```", ""]


if __name__ == "__main__":
    write_text(Path(sys.argv[1] if len(sys.argv) > 1 else "API.md"), render_api())
