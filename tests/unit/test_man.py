"""The man pages: formatted without a warning, and they name the verbs, options and keys that there are, and no others."""
import glob
import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 60
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def run(*command, **more):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, **more)
    if done.returncode or done.stderr:
        raise AssertionError(f"{command}: {done.returncode}:\n{done.stderr}")
    return done.stdout


def roff(name):
    return run("tools/man", f"docs/man/{name}.scd")


def sections(name):
    """Its sections as plain text, by their titles, with lines so long that none is broken in a list's head."""
    text = run("groff", "-k", "-t", "-man", "-Tutf8", "-P-cbou", "-rLL=400n", "-rHY=0", input=roff(name))
    text = re.sub("[\u2010\u2212]", "-", text)  # hyphen and minus
    parts = re.split(r"^([A-Z][A-Z ]*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def heads(section):
    """What the section's list is of: the lines that are not indented further."""
    return re.findall(r"^ {7}(\S.*)$", section, re.M)


def options(text):
    return set(OPTION.findall(text))


def shown(program, *words):
    return run(f"build/{program}", *words)


class Man(unittest.TestCase):
    def test_every_page_is_formatted_without_a_warning(self):
        pages = [os.path.basename(page)[:-len(".scd")] for page in glob.glob(f"{ROOT}/docs/man/*.scd")]
        self.assertIn("hasupd.8", pages)
        for page in pages:
            with self.subTest(page):
                self.assertEqual(run("groff", "-k", "-t", "-man", "-z", "-ww", input=roff(page)), "")
                self.assertIn("NAME", sections(page))

    def test_every_page_and_file_that_a_page_points_to_is_there(self):
        for source in glob.glob(f"{ROOT}/docs/man/*.scd"):
            with open(source, encoding="utf-8") as file:
                text = file.read()
            for name, section in re.findall(r"\*([\w.-]*hasup[\w.-]*)\*\((\d)\)", text):
                self.assertTrue(os.path.exists(f"{ROOT}/docs/man/{name}.{section}.scd"), f"{source}: {name}({section})")
            for name in re.findall(r"docs/[\w-]+\.md", text):
                self.assertTrue(os.path.exists(f"{ROOT}/{name}"), f"{source}: {name}")

    def test_hasupctl_has_the_verbs_and_options_that_its_help_has(self):
        page, usage = sections("hasupctl.1"), shown("hasupctl", "--help")
        verbs = set(re.findall(r"^  ([a-z]+)\b", usage, re.M))
        self.assertEqual({re.match(r"[a-z]+", head).group() for head in heads(page["VERBS"])}, verbs)
        every = options(usage).union(*(options(shown("hasupctl", verb, "--help")) for verb in verbs))
        own = [page[name] for name in ("OPTIONS", "VERBS", "LOGS", "EVENTS", "AUDIT")]
        told = options("\n".join(own))
        self.assertEqual(every - told, set())
        named = options("\n".join(line for section in own for line in heads(section)))
        self.assertEqual(named - every - {"-h"}, set())

    def test_hasupd_has_the_options_that_its_help_has(self):
        page = sections("hasupd.8")
        for section, *words in (("OPTIONS", "--help"), ("ONE COMMAND", "run", "-h")):
            usage = shown("hasupd", *words)
            own = [line for line in usage.split("\n") if section == "ONE COMMAND" or "hasupd run" not in line]
            named = options("\n".join(head for head in heads(page[section]) if head.startswith("-")))
            self.assertEqual(named - {"-h"}, options("\n".join(own)) - {"-h"})

    def test_hasup_http_has_the_options_that_its_help_has(self):
        named = options("\n".join(heads(sections("hasup-http.1")["OPTIONS"])))
        self.assertEqual(named - {"--help"}, options(shown("hasup-http", "--help")) - {"--help"})

    def test_every_key_of_the_example_is_told_of_with_its_place(self):
        page = sections("hasup.yaml.5")
        with open(f"{ROOT}/supervisor.yaml.example", encoding="utf-8") as file:
            example = file.read()
        keys = set(re.findall(r"^ *(?:# )?([a-z_]+):(?: |$)", example, re.M)) - {"digits", "web"}
        self.assertGreater(len(keys), 100)
        self.assertEqual({key for key in keys if not re.search(rf"(?<![a-z_]){key}(?![a-z_])", page["KEYS"])}, set())
        self.assertIn(" ".join(example.split()), " ".join(page["REFERENCE"].split()))


if __name__ == "__main__":
    unittest.main()
