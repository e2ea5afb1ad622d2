"""What `process:` says of a worker is what the kernel says of it."""
import json
import os
import pwd
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from world import WORKER, World  # noqa: E402

ROOT_USER = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if ROOT_USER else pwd.getpwuid(os.geteuid())


def model(keys):
    return f"  m: {{command: [{WORKER}], restart: {{backoff_min: 1m, backoff_max: 1m}}, process: {{{keys}}}}}"


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def descriptors(pid):
    """What each stands for; one that goes meanwhile is left out."""
    folder, found = f"/proc/{pid}/fd", {}
    for fd in os.listdir(folder):
        try:
            found[int(fd)] = os.readlink(f"{folder}/{fd}")
        except FileNotFoundError:
            continue
    return found


class Processes(unittest.TestCase):
    def test_a_worker_gets_its_own_descriptors_and_hasupd_keeps_the_other_ends(self):
        with World(f"  m: {{command: [{WORKER}], workers: 8}}") as world:
            own = list(descriptors(world.process.pid).values())
            for slot in world.slots():
                got = descriptors(slot["pid"])
                self.assertEqual(got[0], "/dev/null")
                for fd, kind in ((1, "pipe:"), (2, "pipe:"), (3, "socket:")):
                    self.assertTrue(got[fd].startswith(kind), got)
                for fd in (1, 2):
                    self.assertEqual(own.count(got[fd]), 1, "the end that reads, and no other")
                strange = [got[fd] for fd in got if fd > 3 and ":[" in got[fd] and got[fd] in own
                           and not got[fd].startswith("anon_inode")]
                self.assertEqual(strange, [])

    def test_too_few_descriptors_for_all_slots_are_said_with_what_to_do(self):
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        with World(f"  m: {{command: [{WORKER}], workers: 50}}", before=few, wait=False) as world:
            said = world.wait_event("descriptors.few")
            self.assertEqual((said["level"], said["limit"]), ("error", 200))
            self.assertGreater(said["needed"], 200)
            self.assertIn("LimitNOFILE=", said["message"])
            world.write(f"  m: {{command: [{WORKER}], workers: 2}}")
            world.ctl("reload")
            until = world.wait_event("config.reloaded")
            self.assertEqual([e for e in world.events if e["event"] == "descriptors.few"], [said], until)

    def test_a_worker_is_what_its_keys_say(self):
        cpu = min(os.sched_getaffinity(0))
        keys = (f"user: {USER.pw_name}, umask: '027', nice: 5, cpus: {cpu}, oom_score: 500, no_new_privs: true, "
                "rlimits: {nofile: 512, core: 0}")
        with World(model(keys)) as world:
            pid = world.slot("m/0")["pid"]
            now = status(pid)
            self.assertEqual(now["Uid"].split(), [str(USER.pw_uid)] * 4)
            self.assertEqual(now["Gid"].split(), [str(USER.pw_gid)] * 4)
            self.assertEqual((now["Umask"], now["NoNewPrivs"], now["Cpus_allowed_list"]), ("0027", "1", str(cpu)))
            self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), 5)
            with open(f"/proc/{pid}/oom_score_adj") as file:
                self.assertEqual(file.read().strip(), "500")
            with open(f"/proc/{pid}/limits") as file:
                limits = file.read()
            self.assertRegex(limits, r"Max open files +512 +512 ")
            self.assertRegex(limits, r"Max core file size +0 +0 ")
            self.assertEqual(world.post("m", "echo hello")[0], 200)

    def test_a_worker_of_another_user_dies_with_hasupd(self):
        with World(model(f"user: {USER.pw_name}")) as world:
            pidfd = os.pidfd_open(world.slot("m/0")["pid"])
            world.process.kill()
            world.process.wait()
            self.assertTrue(select.select([pidfd], [], [], 60)[0], "it lives on")
            os.close(pidfd)

    @staticmethod
    def only(name):
        return {"net_bind_service": 1 << 10, "none": 0}[name]

    def test_capabilities_are_those_named(self):
        if not ROOT_USER:  # who has none to give says so
            with World(model("capabilities: [net_bind_service]"), wait=False) as world:
                world.wait_event("slot.backoff", slot="m/0")
                self.assertRegex(world.slot("m/0")["last_death"]["reason"], "process.capabilities: ")
            return
        for name in ("net_bind_service", "none"):
            with World(model(f"user: nobody, capabilities: [{name}]")) as world:
                now = status(world.slot("m/0")["pid"])
                for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                    self.assertEqual(int(now[kind], 16), self.only(name), kind)

    def test_a_user_that_is_not_there_is_a_start_that_fails(self):
        with World(model("user: no-such-user"), wait=False) as world:
            world.wait_event("slot.backoff", slot="m/0")
            reason = world.slot("m/0")["last_death"]["reason"]
            self.assertTrue(re.search('there is no user "no-such-user" .process.user.', reason), reason)


def mounts_may_be_had():
    """Whether this user may have mounts of its own."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


class Mounts(unittest.TestCase):
    TRY = "for at in $0/file file; do (echo x >> $at) 2> /dev/null && echo wrote $at; done; echo tried; exec $1"

    def started(self, keys, script, *arguments):
        """A model that runs a script, in a directory with a file."""
        world = World("  x: {command: [x]}", start=False)
        path = os.path.join(world.directory, "weights")
        os.mkdir(path)
        with open(os.path.join(path, "file"), "w") as file:
            file.write("weights")
        words = json.dumps(["sh", "-c", script, path, *arguments])
        world.write(f"""  m:
    command: {words}
    restart: {{backoff_min: 1m, backoff_max: 1m}}
    directory: {keys.pop("directory", "weights")}
    process: {json.dumps(keys)}""")
        world.start(wait=False)
        return world, path

    @staticmethod
    def reason(world):
        world.wait_event("slot.backoff", slot="m/0")
        return world.slot("m/0")["last_death"]["reason"]

    def test_read_only_paths_cannot_be_written_to(self):
        for paths in (["weights", "-none"], ["/"], ["weights/file"]):
            world, path = self.started({"read_only_paths": paths, "oom_score": 500}, self.TRY, WORKER)
            with world:
                if not mounts_may_be_had():
                    self.assertEqual(self.reason(world), "could not start: process.read_only_paths: Operation not permitted")
                    continue
                world.wait_event("slot.ready", slot="m/0")
                said = [event["message"] for event in world.events if event["event"] == "worker.stdout"]
                self.assertEqual([line for line in said if not line.startswith("hello")], ["tried"], paths)
                with open(os.path.join(path, "file"), "a") as file:  # nobody else is bound
                    file.write("more")
                self.assertEqual(world.post("m", "echo hello")[0], 200)

    def test_a_path_that_is_not_there_is_a_start_that_fails(self):
        world, _ = self.started({"read_only_paths": ["none"]}, self.TRY, WORKER)
        with world:
            key = "process.read_only_paths"
            why = f"{key}: {world.directory}/none: No such file or directory" if mounts_may_be_had() \
                else f"{key}: Operation not permitted"
            self.assertEqual(self.reason(world), f"could not start: {why}")

    def test_a_tmp_of_its_own_is_empty_and_bounded(self):
        script = ("ls -A $0 2> /dev/null; ls -A /tmp /var/tmp | wc -w; stat -f -c %T /tmp; stat -c %a /tmp; "
                  "head -c 1000000 /dev/zero > /tmp/large 2> /dev/null || stat -c %s /tmp/large")
        world, _ = self.started({"private_tmp": "256KiB", "directory": "/"}, script)
        with world:
            reason = self.reason(world)
            if not mounts_may_be_had():
                self.assertEqual(reason, "could not start: process.private_tmp: Operation not permitted")
                return
            said = [event["message"] for event in world.events if event["event"] == "worker.stdout"]
            self.assertEqual(said, ["2", "tmpfs", "1777", str(256 * 1024)])  # ls says "/tmp:" and "/var/tmp:" alone
            self.assertFalse(os.path.exists("/tmp/large"))

    @unittest.skipUnless(mounts_may_be_had(), "no mounts may be made here")
    def test_a_tmp_of_its_own_that_hides_the_command_is_named(self):
        hides = "process.private_tmp hides what is below /tmp and /var/tmp"
        with tempfile.TemporaryDirectory(dir="/tmp") as place:
            tool = shutil.copy(WORKER, place)
            for directory, why in (("/", f"exec {tool}: No such file or directory: {hides}"),
                                   (place, f"chdir {place}: No such file or directory: {hides}")):
                with World(f"  m: {{command: [{tool}], directory: {directory}, process: {{private_tmp: 1MiB}}}}", wait=False) as world:
                    self.assertEqual(self.reason(world), f"could not start: {why}")


if __name__ == "__main__":
    unittest.main()
