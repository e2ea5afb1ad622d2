"""GET /metrics: what it counts is what happened; promtool, docs/metrics.md, the alerts and the dashboard agree with it."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import BUILD, LIMIT, ROOT, WORKER, World, wait_until  # noqa: E402

MODELS = (f"  m:\n    command: [{WORKER}]\n    timeouts: {{attempt: 300ms, abort: 100ms}}\n    max_attempts: 1\n"
          f"  counter:\n    command: [{BUILD}/examples/counter]\n    spares: 1\n"
          f"  narrow:\n    command: [{WORKER}, --concurrency, '1']\n    queue: {{requests: 1}}\n"
          "  lost:\n    command: [/nonexistent/worker]\n    restart: {backoff_min: 1h, backoff_max: 1h}\n")
LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (-?[0-9.]+)\Z")
LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"(?:,|\Z)')


def promtool(*args, **more):
    return subprocess.run([f"{ROOT}/tools/promtool", *args], capture_output=True, text=True, timeout=LIMIT, **more)


class Scrape:
    def __init__(self, world):
        status, text = world.get("/metrics")
        assert status == 200, text
        self.text, self.values, self.types = text.decode(), {}, {}
        for line in self.text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"{name} twice"
                self.types[name] = kind
            if line[0] != "#":
                name, labels, value = LINE.match(line).groups()
                key = (name, frozenset(LABEL.findall(labels or "")))
                assert key not in self.values, f"{line} twice"
                self.values[key] = float(value)

    def __call__(self, name, **labels):
        return self.values.get((name, frozenset(labels.items())))

    def names(self):
        """Every name that a query may use."""
        return {name for name, _ in self.values} | set(self.types)


def started(models=MODELS, **more):
    world = World(models, wait=False, **more)
    for slot in world.slots():
        if slot["slot"].split("/")[0] != "lost" and slot["state"] != "ready":
            world.wait_event("slot.ready", slot=slot["slot"])
    return world


class Metrics(unittest.TestCase):
    def world(self, *args, **more):
        world = started(*args, **more)
        self.addCleanup(world.close)
        return world

    def test_requests_count_once_by_how_they_ended(self):
        world = self.world()
        for body, headers in (("echo a", {}), ("echo b", {}), ("echo c", {"Idempotency-Key": "k"}),
                              ("echo d", {"Prefer": "respond-async"}), ("fail x", {}), ("exit 3", {}),
                              ("echo e", {}), ("hang", {})):
            world.post("m", body, headers)
        self.assertEqual(world.post("m", "other", {"Idempotency-Key": "k"})[0], 422)
        gone = world.begin("narrow", "until-cancelled")
        wait_until(lambda: world.slot("narrow/0")["inflight"] == 1, "never in flight")
        gone.close()
        wait_until(lambda: Scrape(world)("hasup_requests_total", model="narrow", outcome="cancelled") == 1, "not cancelled")
        said = Scrape(world)
        self.assertEqual({outcome: said("hasup_requests_total", model="m", outcome=outcome)
                          for outcome in ("answered", "failed", "refused", "cancelled")},
                         {"answered": 5, "failed": 1, "refused": 3, "cancelled": 0})
        self.assertEqual(said("hasup_requests_refused_total", model="m", reason="quarantined"), 2)
        self.assertEqual(said("hasup_requests_refused_total", model="m", reason="key_reused"), 1)
        self.assertEqual(said("hasup_worker_ends_total", model="m", cause="exit"), 1)
        self.assertEqual(said("hasup_worker_ends_total", model="m", cause="hang"), 1)
        self.assertEqual(said("hasup_request_seconds_count", model="m"), 9)
        self.assertEqual(said("hasup_request_queue_seconds_count", model="m"), 8)
        self.assertEqual(said("hasup_request_run_seconds_count", model="m"), 6)
        self.assertGreater(said("hasup_request_seconds_sum", model="m"), 0.3)
        self.assertEqual(said("hasup_attempts_total", model="m"), 8)
        self.assertGreater(said("hasup_journal_commit_seconds_count"), 0)
        self.assertEqual(said("hasup_dead_letters"), 2)
        self.assertEqual(said("hasup_model_workers_ready", model="lost"), 0)
        self.assertEqual(said("hasup_worker_ends_total", model="lost", cause="start_failed"), 1)

    def test_what_nobody_waits_for_any_more_counts_too(self):
        with World(f"  m:\n    command: [{WORKER}]\n    journal: always\n") as world:
            for headers in ({}, {"Idempotency-Key": "k"}):
                gate = world.fifo(f"gate{len(headers)}")
                gone = world.begin("m", f"wait {gate}", headers)
                wait_until(lambda: world.slot("m/0")["inflight"] == 1, "never in flight")
                gone.close()
                wait_until(lambda: Scrape(world)("hasup_connections", door="http") == 1, "still open")
                world.release(gate)
                wait_until(lambda: world.slot("m/0")["inflight"] == 0, "still in flight")
            wait_until(lambda: Scrape(world)("hasup_request_seconds_count", model="m") == 2, "not counted")
            said = Scrape(world)
            self.assertEqual([said("hasup_requests_total", model="m", outcome=outcome) for outcome in ("answered", "cancelled")],
                             [2, 0])

    def test_a_full_queue_and_what_waits_show(self):
        world = self.world()
        gate = world.fifo("gate")
        running = world.begin("narrow", f"wait {gate}")
        wait_until(lambda: Scrape(world)("hasup_running_requests", model="narrow") == 1, "never in flight")
        waiting = world.begin("narrow", "echo 12345")
        wait_until(lambda: Scrape(world)("hasup_queue_requests", model="narrow") == 1, "never queued")
        self.assertEqual(world.post("narrow", "echo")[0], 429)
        said = Scrape(world)
        self.assertEqual(said("hasup_queue_bytes", model="narrow"), 10)
        self.assertEqual(said("hasup_queue_limit_requests", model="narrow"), 1)
        self.assertEqual(said("hasup_requests_refused_total", model="narrow", reason="queue_full"), 1)
        self.assertEqual(said("hasup_held_requests"), 2)
        self.assertEqual(said("hasup_connections", door="http"), 3)
        self.assertEqual(said("hasup_http_responses_total", code="4xx"), 1)
        world.release(gate)
        self.assertEqual((world.finish(running)[0], world.finish(waiting)[0]), (200, 200))
        wait_until(lambda: Scrape(world)("hasup_held_requests") == 0, "still held")

    def test_a_slot_shows_its_state_and_its_checkpoint(self):
        world = self.world()
        world.post("counter", "", {"X-Session-Id": "s"})
        said = Scrape(world)
        where = {"model": "counter", "slot": "0"}
        self.assertGreater(said("hasup_slot_unsaved_seconds", **where), 0)
        self.assertEqual(said("hasup_slot_log_requests", **where), 1)
        self.assertIsNone(said("hasup_slot_checkpoint_timestamp_seconds", **where))
        world.ctl("checkpoint", "now", "counter")
        said = Scrape(world)
        self.assertEqual(said("hasup_slot_unsaved_seconds", **where), 0)
        self.assertGreater(said("hasup_slot_checkpoint_timestamp_seconds", **where), 1.7e9)
        self.assertEqual(said("hasup_slot_checkpoint_bytes", **where), 8)
        self.assertEqual(said("hasup_checkpoints_total", model="counter", outcome="stored"), 1)
        self.assertEqual(said("hasup_checkpoint_seconds_count", model="counter"), 1)
        self.assertEqual(said("hasup_session_requests_total", model="counter"), 1)
        self.assertGreater(said("hasup_slot_memory_bytes", **where), 0)
        self.assertEqual(said("hasup_slot_state", model="counter", slot="spare-0", state="ready"), 1)
        self.assertEqual(said("hasup_slot_ready", **where), 1)
        world.post("counter", "")
        world.kill("counter/0")
        world.wait_event("slot.swapped")
        wait_until(lambda: Scrape(world)("hasup_slot_replayed_total", **where) == 1, "never replayed")
        self.assertEqual(Scrape(world)("hasup_worker_ends_total", model="counter", cause="crash"), 1)

    def test_what_was_ordered_is_no_crash(self):
        world = self.world()
        world.ctl("stop", "narrow")
        world.wait_event("slot.stopped", slot="narrow/0")
        world.ctl("restart", "counter", "--wait")
        said = Scrape(world)
        self.assertEqual(said("hasup_worker_ends_total", model="narrow", cause="ordered"), 1)
        wait_until(lambda: Scrape(world)("hasup_worker_ends_total", model="counter", cause="rollout") >= 1, "no rollout")
        self.assertEqual(said("hasup_worker_ends_total", model="counter", cause="crash"), 0)
        self.assertEqual(said("hasup_model_ready", model="narrow"), 0)
        self.assertEqual(said("hasup_ready"), 0)

    def test_batches_show_their_sizes(self):
        with World(f"  b:\n    command: [{os.path.dirname(WORKER)}/batched]\n") as world:
            for _ in range(3):
                world.post("b", "echo x")
            said = Scrape(world)
            self.assertEqual(said("hasup_batch_requests_count", model="b"), 3)
            self.assertEqual(said("hasup_batch_requests_sum", model="b"), 3)
            self.assertEqual(said("hasup_batch_requests_bucket", model="b", le="1"), 3)

    def test_the_route_is_one_like_others(self):
        world = self.world()
        connection = world.connect()
        connection.request("HEAD", "/metrics")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.read()), (200, b""))
        self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        connection.request("POST", "/metrics", "x")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD, OPTIONS"))
        answer.read()
        connection.close()

    def test_hundreds_of_slots_are_bounded_and_measured_in_turn(self):
        world = self.world(f"  many:\n    command: [{BUILD}/examples/echo]\n    workers: 200\n")
        wait_until(lambda: sum(name == "hasup_slot_memory_bytes" for name, _ in Scrape(world).values) == 200, "not all measured")
        said = Scrape(world)
        self.assertLess(len(said.values), 200 * 18 + 250)
        self.assertEqual(said("hasup_slots"), 200)


class Agreement(unittest.TestCase):
    """What others say of the metrics is true."""

    @classmethod
    def setUpClass(cls):
        with started() as world:
            world.post("counter", "")
            world.ctl("checkpoint", "now", "counter")
            for _ in range(2):
                world.post("m", "echo")
            world.process.send_signal(signal.SIGHUP)
            cls.said = Scrape(world)

    def unknown(self, text):
        return set(re.findall(r"\b(?:hasup|process)_[a-z_]+", text)) - self.said.names()

    def test_promtool_has_nothing_to_say(self):
        done = promtool("check", "metrics", input=self.said.text)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_histograms_add_up(self):
        for name, kind in self.said.types.items():
            if kind != "histogram":
                continue
            series = {}
            for (full, labels), value in self.said.values.items():
                if full == f"{name}_bucket":
                    bound = float(dict(labels)["le"].replace("+Inf", "inf"))
                    series.setdefault(frozenset(l for l in labels if l[0] != "le"), []).append((bound, value))
            self.assertTrue(series, name)
            for labels, buckets in series.items():
                counts = [count for _, count in sorted(buckets)]
                self.assertEqual(counts, sorted(counts), name)
                self.assertEqual(counts[-1], self.said.values[(f"{name}_count", labels)])

    def test_the_page_names_each_and_no_other(self):
        with open(f"{ROOT}/docs/metrics.md", encoding="utf-8") as file:
            page = file.read()
        kinds = {}
        for row in re.findall(r"^\| (`[^|]*`) \| ([a-z, ]+) \|", page, re.M):
            names, types = re.findall(r"`((?:hasup|process)_[a-z_]+)`", row[0]), row[1].split(", ")
            kinds.update(zip(names, types if len(types) == len(names) else types * len(names)))
        self.assertEqual(kinds, self.said.types)

    def test_each_alert_is_sound_tested_and_has_its_place_in_the_page(self):
        directory = f"{ROOT}/deploy/prometheus"
        done = promtool("check", "rules", "alerts.yml", cwd=directory)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        done = promtool("test", "rules", "alerts_test.yml", cwd=directory)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(f"{directory}/alerts.yml", encoding="utf-8") as file:
            rules = file.read()
        with open(f"{directory}/alerts_test.yml", encoding="utf-8") as file:
            tests = file.read()
        with open(f"{ROOT}/docs/metrics.md", encoding="utf-8") as file:
            page = file.read()
        alerts = re.findall(r"- alert: (\w+)", rules)
        self.assertEqual(alerts, re.findall(r"^### (\w+)$", page, re.M))
        self.assertEqual(sorted(2 * alerts), sorted(re.findall(r"alertname: (\w+)", tests)))
        self.assertEqual(alerts, [name for name in alerts if f"runbook: docs/metrics.md#{name.lower()}\n" in rules])
        expressions = "\n".join(re.findall(r"expr: >-\n(.*)", rules))
        self.assertEqual(self.unknown(expressions) | self.unknown(" ".join(re.findall(r"series: '(.*?)'", tests))), set())
        for reason in re.findall(r'"((?:\w+\|)+\w+)"', expressions):
            for word in reason.split("|"):
                self.assertTrue(any(word == value for _, labels in self.said.values for _, value in labels), word)

    def test_the_dashboard_asks_for_what_is_there(self):
        with open(f"{ROOT}/deploy/grafana/hasup.json", encoding="utf-8") as file:
            board = json.load(file)
        queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
        queries += [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable]
        self.assertGreater(len(queries), 40)
        for query in queries:
            self.assertEqual(self.unknown(query), set(), query)
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as rules:
            rules.write("groups:\n- name: dashboard\n  rules:\n")
            for i, query in enumerate(q for q in queries if not q.startswith("label_values")):
                query = query.replace("$__rate_interval", "1m").replace("$instance", "a").replace("$model", "m")
                rules.write(f"  - record: query:{i}\n    expr: {json.dumps(query)}\n")
            rules.flush()
            done = promtool("check", "rules", rules.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
