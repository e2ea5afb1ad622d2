"""make package-check, second part: what stands in deploy/ by the judges of its own world.  Kubernetes' types and validators
(from npm), docker-compose, a linter for the container file; and buildah, which builds the image, and runs it as a pod would."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
from package_check import run  # noqa: E402

# In namespaces of its own, in the image's files: hasupd is PID 1, asked as Kubernetes' probes ask, and stopped by TERM.
INSIDE = textwrap.dedent("""\
    set -eu
    ip link set lo up
    mount -t proc proc "$1/proc"
    mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs "$1/run/hasup"
    exec chroot --userspec=10001:10001 "$1" /usr/bin/hasupd -c /etc/hasup.yaml
""")


def output(*command, **more):
    return subprocess.run(command, check=True, timeout=600, stdout=subprocess.PIPE, text=True, **more).stdout


def manifests():
    """As JSON, by Debian's own PyYAML."""
    files = sorted(set(glob.glob(f"{ROOT}/deploy/kubernetes/*.yaml")) - {f"{ROOT}/deploy/kubernetes/kustomization.yaml"})
    script = "import json, sys, yaml; print(json.dumps([d for f in sys.argv[1:] for d in yaml.safe_load_all(open(f))]))"
    return json.loads(output("/usr/bin/python3", "-c", script, *files))


def check_manifests(directory):
    work = f"{directory}/kubernetes"
    shutil.copytree(f"{HERE}/kubernetes", work, ignore=shutil.ignore_patterns("node_modules"))
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=work, stdout=subprocess.DEVNULL)
    with open(f"{work}/manifests.json", "w", encoding="utf-8") as file:
        json.dump(manifests(), file)
    run("node", "check.mjs", "manifests.json", f"{ROOT}/deploy/container/Containerfile", cwd=work)
    run("node_modules/.bin/tsc", "--noEmit", "--skipLibCheck", "--strict", "--module", "node16", "--moduleResolution", "node16",
        "strict.mts", cwd=work)
    run("yamllint", "-d", "{extends: relaxed, rules: {line-length: disable}}", f"{ROOT}/deploy")
    run("docker-compose", "-f", f"{ROOT}/deploy/compose/compose.yaml", "config", "-q")


class Buildah:
    def __init__(self, directory):
        self.options = ["--storage-driver", "vfs", "--root", f"{directory}/store", "--runroot", f"{directory}/run"]

    def __call__(self, *args, **more):
        return output("buildah", *self.options, *args, **more).strip()

    def image(self, directory, source):
        """The container file's default target, on a Debian that is made here: no registry is asked."""
        base = f"{directory}/base.tar"
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", base)
        container = self("from", "scratch")
        self("add", "-q", container, base, "/")
        self("commit", "-q", container, "localhost/base")
        self("rm", container)
        run("buildah", *self.options, "bud", "--isolation", "chroot", "--build-arg", "BASE=localhost/base", "-t", "hasup",
            "-f", "deploy/container/Containerfile", ".", cwd=source, stdout=subprocess.DEVNULL)
        return "localhost/hasup"


def check_image(directory):
    source = f"{directory}/source"
    os.mkdir(source)
    with subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        run("tar", "-xf", "-", "-C", source, stdin=archive.stdout)
    buildah = Buildah(directory)
    image = buildah.image(directory, source)
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert config["User"] == "10001:10001", config
    assert config["Entrypoint"] == ["/usr/bin/hasupd", "-c", "/etc/hasup.yaml"], config
    container = buildah("from", image)
    root = buildah("mount", container)
    try:
        serve(root)
    finally:
        buildah("umount", container)


def serve(root):
    """deploy/container/hasup.yaml with README's worker, as a pod runs it."""
    with open(f"{ROOT}/deploy/container/hasup.yaml", encoding="utf-8") as file, \
            open(f"{root}/etc/hasup.yaml", "w", encoding="utf-8") as configuration:
        configuration.write(file.read())
    worker = f"{root}/usr/local/bin/my-worker"
    run("cc", "-static", "-O2", "-o", worker, f"-I{ROOT}/worker", "-x", "c", "-", "-x", "none", f"{ROOT}/build/libhasup.a",
        input=readme_worker(), text=True)
    os.chmod(worker, 0o755)
    read, write = os.pipe()
    hasupd = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", root],
                              stderr=write)
    os.close(write)
    with os.fdopen(read) as log:
        said = []
        while not any('"slot.ready"' in line for line in said):
            said.append(log.readline())
            assert said[-1], f"hasupd did not get ready: {said}"
        assert '"hasupd.started"' in "".join(said) and '"pid":1,' in "".join(said), said
        inside = int(output("pgrep", "-P", str(hasupd.pid)))

        def ask(*curl):
            return output("nsenter", "--net", "-t", str(inside), "curl", "-sS", "--max-time", "20", *curl)
        assert ask("http://127.0.0.1:8080/v2/health/live") == '{"live":true}'
        assert ask("--retry", "20", "--retry-delay", "1", "http://127.0.0.1:8080/v2/health/ready") == '{"ready":true}'
        assert ask("-d", "hello", "http://127.0.0.1:8080/models/mine/invoke") == "HELLO"
        assert "hasup_model_ready" in ask("http://127.0.0.1:8080/metrics")
        os.kill(inside, 15)
        log.read()
    assert hasupd.wait(60) == 0, hasupd.returncode


def readme_worker():
    from test_install import readme
    return readme("shout.c")


def main():
    if os.geteuid():
        sys.exit("deploy_check: building an image needs root")
    directory = tempfile.mkdtemp(prefix="hasup-deploy.")
    try:
        check_manifests(directory)
        check_image(directory)
    finally:
        shutil.rmtree(directory)
    print("deploy_check: ok")


if __name__ == "__main__":
    main()
