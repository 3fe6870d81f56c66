"""Does what docker-compose.yml says with namespaces in place of containers: each service has a root of its own (an overlay
over this machine's, so Debian's packages must be installed here), its volumes, its network address, its user and its
capabilities; conditions and health checks are kept. Not Docker: the Dockerfile is not built, and PostgreSQL's image is
imitated. Needs root; changes nothing outside of its temporary folder.

    PYTHONPATH=.tools/check-jsonschema unshare --net --mount --pid --fork --mount-proc --kill-child \
        python3 scripts/rehearse_compose.py BIN_DIR POSTGRES_BIN_DIR [SERVICE]

Runs everything that SERVICE (default: try) depends on, then SERVICE, and ends with its exit code.
"""

import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ["countersign", "countersignd", "countersign-hsm-worker", "countersign-demo-ca", "countersign-testkit"]
USERS = "countersign:x:10001:10001::/var/lib/countersign:/usr/sbin/nologin\ndb-image:x:999:999::/var/lib/postgresql:/bin/sh\n"


def sh(*words, **more):
    return subprocess.run([str(w) for w in words], check=True, **more)


class Engine:
    def __init__(self, compose, work, bin_dir, postgres):
        self.services, self.work, self.bin, self.postgres = compose["services"], work, bin_dir, postgres
        self.address = {name: f"10.77.0.{n + 2}" for n, name in enumerate(self.services)}
        self.roots, self.running, self.ended = {}, {}, {}
        self.hosts = "127.0.0.1 localhost\n"
        for name, service in self.services.items():
            self.hosts += f"{self.address[name]} {name}\n"
            for alias in (service.get("networks") or {}).get("default", {}).get("aliases", []):
                self.hosts += f"{self.address[name]} {alias}\n"
        sh("mount", "--make-rprivate", "/")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "address", "add", "10.77.0.1/24", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        for volume in compose["volumes"]:
            (work / "volumes" / volume).mkdir(parents=True)
        # What the postgres image has in these places, a new volume gets.
        for volume, mode in {"database": 0o700, "database-socket": 0o3777}.items():
            os.chown(work / "volumes" / volume, 999, 999)
            os.chmod(work / "volumes" / volume, mode)

    def root(self, name):
        """The service's root: made once, with its volumes."""
        if name in self.roots:
            return self.roots[name]
        layers = self.work / "roots" / name
        layers.mkdir(parents=True)
        sh("mount", "-t", "tmpfs", "tmpfs", layers)
        for part in ("upper", "work", "root"):
            (layers / part).mkdir()
        root = layers / "root"
        sh("mount", "-t", "overlay", "overlay", "-o",
           f"lowerdir=/,upperdir={layers / 'upper'},workdir={layers / 'work'}", root)
        for place in ("proc", "dev", "sys"):
            sh("mount", "--rbind", f"/{place}", root / place)
        for place in ("tmp", "run"):
            sh("mount", "-t", "tmpfs", "-o", "mode=1777" if place == "tmp" else "mode=755", "tmpfs", root / place)
        (root / "etc/hosts").write_text(self.hosts)
        with open(root / "etc/passwd", "a") as passwd:
            passwd.write(USERS)
        for program in OURS:
            sh("install", "-D", "-m", "755", self.bin / program, root / "usr/local/bin" / program)
        share = root / "usr/local/lib/countersign"
        share.mkdir(parents=True, exist_ok=True)
        sh("cp", "-r", f"{ROOT}/packaging/compose/.", share)
        for place in ("countersign", "countersign-tokens"):
            made = root / "var/lib" / place
            made.mkdir(mode=0o700, exist_ok=True)
            os.chown(made, 10001, 10001)
        for volume in self.services[name].get("volumes", []):
            source, target, *mode = volume.split(":")
            # /var/run is a link to /run.
            at = root / target.lstrip("/").replace("var/run/", "run/")
            if source.startswith("."):
                at.parent.mkdir(parents=True, exist_ok=True)
                sh("cp", ROOT / source, at)
                continue
            at.mkdir(parents=True, exist_ok=True)
            sh("mount", "--bind", self.work / "volumes" / source, at)
            if mode == ["ro"]:
                sh("mount", "-o", "remount,bind,ro", at)
        if self.services[name].get("read_only"):
            for place in (root, root / "run"):
                sh("mount", "-o", "remount,ro", place)
        self.roots[name] = root
        return root

    def inside(self, name, words, env=None, **more):
        """A command in the service: its root, network, user, capabilities."""
        service = self.services[name]
        user = "999" if name == "postgres" else service.get("user", "10001:10001").split(":")[0]
        drop = ["--bounding-set", "-all", "--inh-caps", "-all"]
        if service.get("cap_add"):
            keep = ",".join("+" + c.lower() for c in service["cap_add"])
            drop = ["--bounding-set", "-all," + keep, "--inh-caps", "-all," + keep]
        elif name == "postgres":
            drop = []
        path = f"{self.postgres}:/usr/local/bin:/usr/bin:/bin" if name == "postgres" else "/usr/local/bin:/usr/bin:/bin"
        values = {"PATH": path, "HOME": "/tmp", **(service.get("environment") or {}), **(env or {})}
        join = ["nsenter", f"--net={self.network(name)}"]
        command = [*join, "chroot", self.root(name), "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
                   "--no-new-privs", *drop, "env", "-i", *(f"{k}={v}" for k, v in values.items()), *words]
        return subprocess.Popen([str(w) for w in command], **more)

    def network(self, name):
        """A network namespace, kept by a sleeper, on the bridge."""
        kept = self.work / "networks" / name
        if not kept.exists():
            n = self.address[name].rsplit(".", 1)[1]
            sleeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            time.sleep(0.3)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(str(sleeper.pid))
            sh("ip", "link", "add", f"v{n}", "type", "veth", "peer", "name", "eth0", "netns", str(sleeper.pid))
            sh("ip", "link", "set", f"v{n}", "master", "br0", "up")
            for words in (["address", "add", f"{self.address[name]}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                          ["link", "set", "lo", "up"]):
                sh("nsenter", f"--net=/proc/{sleeper.pid}/ns/net", "ip", *words)
        return f"/proc/{kept.read_text()}/ns/net"

    def postgres_image(self, log):
        """What the postgres image's entrypoint does with this file's settings."""
        env = self.services["postgres"]["environment"]
        script = f"""set -e; cd /tmp
export PGDATA=/var/lib/postgresql/data PGPASSWORD=$(cat {env['POSTGRES_PASSWORD_FILE']})
if [ ! -s $PGDATA/PG_VERSION ]; then
    initdb --username=postgres --pwfile={env['POSTGRES_PASSWORD_FILE']} {env['POSTGRES_INITDB_ARGS']}
    pg_ctl -w start -o "-c listen_addresses= -c unix_socket_directories=/var/run/postgresql"
    for f in /docker-entrypoint-initdb.d/*; do PGHOST=/var/run/postgresql "$f"; done
    pg_ctl -w stop -m fast
fi
exec {shlex.join(self.services['postgres']['command'])} -c unix_socket_directories=/var/run/postgresql"""
        return self.inside("postgres", ["sh", "-c", script], stdout=log, stderr=log)

    def log(self, name):
        return open(self.work / f"{name}.log", "ab")

    def up(self, name):
        """Starts a service after what it depends on, and waits for what it is waited for."""
        if name in self.running or name in self.ended:
            return
        service = self.services[name]
        needs = service.get("depends_on", {})
        for need, how in needs.items():
            self.up(need)
            if how["condition"] == "service_healthy":
                self.healthy(need)
        print(f"── {name}", flush=True)
        log = self.log(name)
        if name == "postgres":
            self.running[name] = self.postgres_image(log)
        elif service.get("restart") == "no":
            code = self.inside(name, service["command"], stdout=log, stderr=log).wait()
            self.ended[name] = code
            if code and name != self.last:
                self.fail(name, f"ended with {code}")
        else:
            self.running[name] = self.inside(name, service["command"], stdout=log, stderr=log)

    def healthy(self, name):
        check = self.services[name]["healthcheck"]
        words = [w.replace("$$", "$") for w in check["test"][1:]]
        if name == "postgres":  # process 1 is another here
            words = ["sh", "-c", "cd /tmp; [ -e $PGDATA/postmaster.pid ] && PGHOST=/var/run/postgresql PGPASSWORD=$(cat "
                     "/run/countersign/database/countersign) psql -qAtU countersign -d countersign -c 'SELECT 1'"]
        for _ in range(120):
            if self.running[name].poll() is not None:
                self.fail(name, f"ended with {self.running[name].returncode}")
            with self.log(name) as log:
                if self.inside(name, words, {"PGDATA": "/var/lib/postgresql/data"}, stdout=log, stderr=log).wait() == 0:
                    return
            time.sleep(0.5)
        self.fail(name, "is not healthy")

    def fail(self, name, why):
        print(f"rehearsal: {name} {why}\n{(self.work / f'{name}.log').read_text()[-4000:]}")
        sys.exit(1)


def main():
    bin_dir, postgres = (pathlib.Path(p).resolve() for p in sys.argv[1:3])
    compose = YAML(typ="safe", pure=True).load((ROOT / "docker-compose.yml").read_text())
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as work:
        engine = Engine(compose, pathlib.Path(work), bin_dir, postgres)
        engine.last = sys.argv[3] if len(sys.argv) > 3 else "try"
        try:
            engine.up(engine.last)
            said = (engine.work / f"{engine.last}.log").read_text()
            print(said)
            code = engine.ended.get(engine.last, 0)
        finally:
            for process in engine.running.values():
                process.terminate()
            for process in engine.running.values():
                process.wait(timeout=60)
            for root in engine.roots.values():
                subprocess.run(["umount", "--lazy", "--recursive", root.parent], check=False)
    sys.exit(code)


main()
