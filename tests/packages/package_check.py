"""make package-check: the tarball builds and serves; the Debian packages build from it, pass lintian without errors, install on
this Debian's own files (an overlay that is thrown away), serve as a service would, and go again without a trace.  As root."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIMIT = 600

# In the overlay, as root of it, with no service manager: what systemd would do is done by hand.
INSIDE = textwrap.dedent("""\
    set -eu
    mount -t proc proc /proc
    dpkg -i /debs/libhasup0_*.deb /debs/libhasup-dev_*.deb /debs/hasup_*.deb /debs/python3-hasup_*.deb
    getent passwd hasup
    rm -rf /var/lib/hasup  # of another installation
    mkdir -p /srv/hasup-check /run/hasup /var/lib/hasup
    chown hasup:hasup /run/hasup /var/lib/hasup
    chmod 0700 /run/hasup /var/lib/hasup
    cd /srv/hasup-check
    cp /check/shout.c /check/total.py .
    cc -O2 -Wall -Werror -o shout shout.c $(pkg-config --cflags --libs libhasup)
    cp /usr/share/doc/hasup/examples/hasup.yaml /etc/hasup.yaml
    sed -i -e 's,\\[/usr/local/bin/my-worker\\],[/srv/hasup-check/shout],' -e 's,127.0.0.1:8080,127.0.0.1:0,' /etc/hasup.yaml
    printf '  total:\\n    command: [/usr/bin/python3, /srv/hasup-check/total.py]\\n' >>/etc/hasup.yaml
    hasupd --check /etc/hasup.yaml
    exec /usr/bin/python3 -B /check/as_a_service.py
""")

SERVICE = textwrap.dedent("""\
    import os, re, signal, socket, subprocess, sys
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.settimeout(60)
    notify.bind("/run/hasup/notify")
    os.chmod("/run/hasup/notify", 0o777)

    def wait(line):
        while line not in notify.recv(4096).decode().split("\\n"):
            pass

    def ctl(*words, **more):
        return subprocess.run(["hasupctl", *words], check=True, capture_output=True, timeout=60, **more).stdout

    unit = open("/lib/systemd/system/hasup.service").read()
    command = re.search("^ExecStart=(.*)$", unit, re.M).group(1).split()
    hasupd = subprocess.Popen(["setpriv", "--reuid=hasup", "--regid=hasup", "--clear-groups", *command], cwd="/var/lib/hasup",
                              env={"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": "/run/hasup/notify", "WATCHDOG_USEC": "200000"})
    wait("READY=1")
    wait("WATCHDOG=1")
    assert ctl("infer", "mine", input=b"hello") == b"HELLO"
    assert ctl("infer", "total", input=b"40").strip() == b"40"
    assert ctl("infer", "total", input=b"2").strip() == b"42"
    ctl("checkpoint", "now", "total")
    for line in open("/etc/cron.d/hasup-audit"):
        if line[0] not in "#\\n":
            words = line.rstrip("\\n").split(None, 6)
            assert words[5] == "hasup", line
            said = subprocess.run(["setpriv", "--reuid=hasup", "--regid=hasup", "--clear-groups", "sh", "-c", words[6]], timeout=60,
                                  env={"PATH": "/usr/bin:/bin", "HOME": "/var/lib/hasup"}, capture_output=True, text=True)
            assert (said.returncode, said.stdout, said.stderr) == (0, "", ""), said
    hasupd.send_signal(signal.SIGTERM)
    wait("STOPPING=1")
    assert hasupd.wait(60) == 0
    os.unlink("/run/hasup/notify")
    os.unlink("/etc/hasup.yaml")
    subprocess.run(["dpkg", "-P", "python3-hasup", "libhasup-dev", "hasup", "libhasup0"], check=True, timeout=120)
    left = [path for top in ("/usr/bin", "/usr/lib", "/usr/include", "/usr/share/doc", "/usr/share/hasup", "/etc", "/lib/systemd/system")
            for path, dirs, files in os.walk(top) for path in (os.path.join(path, f) for f in files) if "hasup" in path]
    assert not left, left
    print("installed, served, audited, purged")
""")


def run(*command, **more):
    print("+", *command[:4], flush=True)
    subprocess.run(command, check=True, timeout=LIMIT, **more)


def build_tarball(directory):
    run("make", "--no-print-directory", "dist", cwd=ROOT)
    (tarball,) = glob.glob(f"{ROOT}/build/hasup-*.tar.gz")
    run("tar", "-xf", tarball, "-C", directory)
    (source,) = glob.glob(f"{directory}/hasup-*")
    return source


def smoke(source, directory):
    """The tarball's own build answers."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    run("make", "-j2", "build/hasupd", "build/hasupctl", "build/hasup-http", "build/examples/echo", cwd=source, env=env,
        stdout=subprocess.DEVNULL)
    config = f"{directory}/echo.yaml"
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"state_dir: {directory}/state\nruntime_dir: {directory}/run\nlisten: {{http: off}}\n"
                   f"models:\n  echo:\n    command: [{source}/build/examples/echo]\n")
    hasupd = subprocess.Popen([f"{source}/build/hasupd", "-c", config], stderr=subprocess.PIPE)
    try:
        while b'"slot.ready"' not in hasupd.stderr.readline():
            assert hasupd.poll() is None, "hasupd did not get ready"
        said = subprocess.run([f"{source}/build/hasupctl", "-s", f"{directory}/run/hasup.sock", "infer", "echo"],
                              input=b"from the tarball", stdout=subprocess.PIPE, check=True, timeout=60).stdout
        assert said == b"from the tarball", said
    finally:
        hasupd.kill()
        hasupd.wait()


def install(directory):
    """In a mount namespace of its own: what it mounts is gone with it."""
    check = f"{directory}/check"
    os.mkdir(check)
    sys.path.insert(0, HERE)
    from test_install import readme
    for name, text in (("inside", INSIDE), ("as_a_service.py", SERVICE), ("shout.c", readme("shout.c")), ("total.py", readme("total.py"))):
        with open(f"{check}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    script = textwrap.dedent(f"""\
        set -eu
        cd {directory}
        mkdir layer
        mount -t tmpfs tmpfs layer
        mkdir layer/up layer/work layer/root
        mount -t overlay overlay -o lowerdir=/,upperdir=layer/up,workdir=layer/work layer/root
        mkdir -p layer/root/debs layer/root/check
        cp *.deb layer/root/debs
        cp check/* layer/root/check
        for d in dev sys; do mount --rbind /$d layer/root/$d; done
        mount -t tmpfs tmpfs layer/root/run
        mkdir -p -m 1777 layer/root/run/lock
        printf '#!/bin/sh\\nexit 101\\n' >layer/root/usr/sbin/policy-rc.d
        chmod +x layer/root/usr/sbin/policy-rc.d
        exec chroot layer/root /bin/sh /check/inside
    """)
    run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script)


def main():
    if os.geteuid():
        sys.exit("package-check: installing packages needs root")
    directory = tempfile.mkdtemp(prefix="hasup-package.")
    try:
        source = build_tarball(directory)
        smoke(source, directory)
        run("dpkg-buildpackage", "-us", "-uc", "-b", "-j2", cwd=source, stdout=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "CI")})
        (changes,) = glob.glob(f"{directory}/*.changes")
        run("lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", "missing-systemd-timer-for-cron-script", changes)
        install(directory)
    finally:
        shutil.rmtree(directory)
    print("package-check: ok")


if __name__ == "__main__":
    main()
