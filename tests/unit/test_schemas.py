"""docs/schemas and the code say the same: each schema is one, describes each field, and has the values that the C tables have."""
import functools
import glob
import os
import re
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
import schemas  # noqa: E402

UNITS = {"_ms": "ms", "_us": "us", "_ns": "ns", "_kib": "KiB", "_wall_ms": "since 1970"}
TEXT = r'"((?:[^"\\]|\\.)*)"'


def sources(*directories):
    texts = {}
    for directory in directories:
        for path in glob.glob(f"{ROOT}/{directory}/**/*.[ch]", recursive=True):
            with open(path, encoding="utf-8") as file:
                texts[os.path.relpath(path, ROOT)] = file.read()
    return texts


C = sources("supervisor", "checkpoints", "hasupctl")


@functools.lru_cache(None)
def table(comment):
    """The values of "NAME", or of column N of it as "NAME N": X(NAME, "text") of a list of names, an array of texts or of
    {"text", "other"}, or a function that returns them."""
    name, _, column = comment.partition(" ")
    kinds = ((rf"#define {name}\(X\)((?:[^\n]*\\\n)*[^\n]*\n)", r"X\(([^()]*)\)"),
             (rf"\b{name}\[\w*\] = \{{([^{{}}]*)\}};", r"(\"[^,]*)"),
             (rf"\b{name}\[\w*\] = \{{([^;]*\{{[^;]*)\}};", r"\{([^{}]*)\}"),
             (rf"const char \*{name}\([^;{{]*\)\n\{{(.*?)^\}}", r"(\"[^\"]*\")"))
    found = [re.findall(row, body) for text in C.values() for whole, row in kinds for body in re.findall(whole, text, re.S | re.M)]
    if len(found) != 1:
        raise AssertionError(f'"$comment": "{comment}": {len(found)} tables or functions of this name')
    return {re.findall(TEXT, row)[int(column or 1) - 1] for row in found[0]}


def config_keys(name):
    text = "\n".join(C.values())
    (body,) = re.findall(rf"config_key {name}\[\] = \{{(.*?)^\}};", text, re.S | re.M)
    for macro in re.findall(r"^    (\w+_KEYS),", body, re.M):
        body += "".join(re.findall(rf"#define {macro}\b((?:[^\n]*\\\n)*[^\n]*\n)", text))
    return {"." + key for key in re.findall(r'^    (?:TOP|MODEL)\("([\w.]+)"', body, re.M)}


def can_be_null(schema):
    return "null" in schema.get("type", ()) or None in schema.get("enum", ()) or {"type": "null"} in schema.get("oneOf", ())


class Schemas(unittest.TestCase):
    def setUp(self):
        self.schemas = schemas.load()
        self.assertIn("status", self.schemas)

    def each(self):
        """Where, a schema in it, and what that refers to."""
        return [(name + path, schema, schemas.resolved(root, schema))
                for name, root in self.schemas.items() for path, schema in schemas.walk(root)]

    def test_each_is_a_schema_that_says_whose_it_is(self):
        for name, root in self.schemas.items():
            with self.subTest(name):
                schemas.check(root)
                self.assertEqual(root["$id"], f"urn:hasup:schema:{name}")
                self.assertIn("hasupctl", root["title"])

    def test_every_object_lets_in_no_field_that_it_does_not_describe(self):
        for where, _, of in self.each():
            with self.subTest(where):
                if "properties" in of:
                    self.assertIs(of["additionalProperties"], False)
                    self.assertLessEqual(set(of["required"]), set(of["properties"]))
                elif "object" in of.get("type", ()):
                    self.assertIsInstance(of["additionalProperties"], dict)

    def test_every_field_is_described_with_its_unit_and_when_it_is_not_there(self):
        for where, _, of in self.each():
            for field, schema in of.get("properties", {}).items():
                with self.subTest(f"{where}.{field}"):
                    self.assertTrue("description" in schema or "$ref" in schema, "it has no description")
                    said = schema.get("description", "What it refers to says it.")
                    self.assertTrue(said.endswith("."), said)
                    self.assertIn("Absent" if field not in of["required"] else "", said)
                    self.assertIn("null" if can_be_null(schema) else "", said)
                    for end, unit in UNITS.items():
                        if field.endswith(end):
                            self.assertRegex(said, rf"\b{unit}\b|likewise")

    def test_what_is_referred_to_is_described(self):
        for name, root in self.schemas.items():
            for definition, schema in root.get("$defs", {}).items():
                self.assertIn("description", schema, f"{name}: {definition}")

    def test_every_value_is_one_of_the_tables_in_the_code_and_none_is_missing(self):
        for where, schema, _ in self.each():
            if "enum" in schema:
                with self.subTest(where):
                    self.assertEqual({value for value in schema["enum"] if value is not None}, table(schema["$comment"]))

    def test_every_field_that_is_logged_is_in_the_schema_of_events_or_logs(self):
        known = {}
        for name, schema in (*self.schemas["events"]["properties"].items(), *self.schemas["logs"]["properties"].items()):
            types = schema.get("type", str(schema.get("const")))
            known.setdefault(name, set()).update([types] if isinstance(types, str) else types)
        types = {"TEXT": "string", "INT": "integer", "NS": "integer", "TRUE": "True"}
        seen = set()
        for path, text in C.items():
            if path.startswith(("supervisor/core/", "supervisor/sim/", "supervisor/log.h")):
                continue
            for kind, key in re.findall(r'\bLOG_(TEXT|INT|NS|TRUE)\((?:[^",;]*\? )?"(\w+)"', text):
                name = key + ("_ns" if kind == "NS" else "")
                seen.add(name)
                with self.subTest(f"{path}: {name}"):
                    self.assertIn(name, known, "docs/schemas/events.json has no such field")
                    self.assertIn(types[kind], known[name])
        self.assertGreater(len(seen), 30)
        self.assertEqual(set(known) - seen, {"time", "level", "event", "message", "truncated"})

    def test_every_key_of_the_configuration_is_in_its_schema(self):
        root = self.schemas["config"]
        leaves = {path for path, s in schemas.walk(root) if path and "[]" not in path and "properties" not in schemas.resolved(root, s)}
        top = {path for path in leaves if path.startswith(".")}
        self.assertEqual(top, config_keys("config_top_keys"))
        for kind in ("model", "program"):
            keys = {path[len(kind):] for path in leaves if path.startswith(f"{kind}.")} - {".fingerprint"}
            said = {re.sub(r"^(\.(?:ready|live)\b).*", r"\1", path) for path in keys}  # what a probe is has its own table
            self.assertEqual(said, config_keys(f"config_{kind}_keys"))

    def test_the_page_names_each_one(self):
        with open(f"{ROOT}/docs/hasupctl.md", encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(set(re.findall(r"\(schemas/([\w-]+)\.json\)", page)), set(self.schemas))


if __name__ == "__main__":
    unittest.main()
