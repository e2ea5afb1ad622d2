"""What the tests of docs/schemas share: the schemas by name, and what validates by them."""
import glob
import json
import os
import sys

try:
    from jsonschema import Draft202012Validator
except ImportError:  # Debian's package is for Debian's python3
    sys.path.append("/usr/lib/python3/dist-packages")
    from jsonschema import Draft202012Validator

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def load():
    schemas = {}
    for path in glob.glob(f"{ROOT}/docs/schemas/*.json"):
        with open(path, encoding="utf-8") as file:
            schemas[os.path.basename(path)[:-len(".json")]] = json.load(file)
    return schemas


def check(schema):
    """Against the metaschema."""
    Draft202012Validator.check_schema(schema)


def faults(schema, value):
    """What in the value is not as the schema says, a line each."""
    found = []
    for error in Draft202012Validator(schema).iter_errors(value):
        parts = [error, *(error.context or ())]  # of a choice, also why each one does not fit
        found += [f"{'/'.join(map(str, e.absolute_path)) or '.'}: {e.message}"[:600] for e in parts]
    return found


def resolved(root, schema):
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def named(schema, path):
    """A definition is one, wherever it is used."""
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else path


def walk(root, schema=None, path=""):
    """All schemas in it: where, and what."""
    schema = root if schema is None else schema
    yield path, schema
    of, path = resolved(root, schema), named(schema, path)
    for name, child in of.get("properties", {}).items():
        yield from walk(root, child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(of.get(key), dict):
            yield from walk(root, of[key], f"{path}[]")
    for child in of.get("oneOf", ()):
        yield from walk(root, child, path)


def told(root, value, schema=None, path=""):
    """Where the value has a property that is not null."""
    schema = root if schema is None else schema
    of, path = resolved(root, schema), named(schema, path)
    if "oneOf" in of:
        fits = [one for one in of["oneOf"] if not faults({**one, "$defs": root.get("$defs", {})}, value)]
        of, path = resolved(root, fits[0]), named(fits[0], path)
    if isinstance(value, list):
        for one in value:
            yield from told(root, one, of.get("items", {}), f"{path}[]")
    elif isinstance(value, dict):
        for name, one in value.items():
            known = name in of.get("properties", {})
            here = f"{path}.{name}" if known else f"{path}[]"
            if one is not None:
                yield here
                yield from told(root, one, of["properties"][name] if known else of["additionalProperties"], here)
