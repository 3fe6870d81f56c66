"""What the Compose schema cannot say of docker-compose.yml: names lead somewhere, no secret stands in it, every path is
in the image or in a volume, and every command line is one our programs take.

    python3 scripts/check_compose.py BIN_DIR
"""

import pathlib
import re
import subprocess
import sys

from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = {"countersign", "countersignd", "countersign-hsm-worker", "countersign-demo-ca", "countersign-testkit"}
SHARE = "/usr/local/lib/countersign/"  # where the Dockerfile copies packaging/compose/


def commands(service):
    """Command lines of a service, as lists."""
    command = service.get("command", [])
    yield command if isinstance(command, list) else command.split()
    test = service.get("healthcheck", {}).get("test")
    if test:
        assert test[0] == "CMD", f"a health check is a list that begins with CMD: {test}"
        yield test[1:]


def scripted(path):
    """Command lines of ours in a shell script, joined over line ends, with a value for each variable."""
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        line = line.strip()
        for start in [r"^", r"&& ", r"\$\(", r"exec "]:
            for match in re.finditer(start + r"((?:" + "|".join(OURS) + r") [a-z][^|;>)&]*)", line):
                words = [re.sub(r"\$\{?\w+\}?", "x", w.strip("\"'")) for w in match[1].split()]
                yield [w for w in words if w not in ("x@", "$@")]


def check(errors, bin_dir, place, words):
    """With --help last a program reads its command line and does nothing."""
    done = subprocess.run([bin_dir / words[0], *words[1:], "--help"], capture_output=True, text=True)
    if done.returncode:
        errors.append(f"{place}: {' '.join(words)}\n{done.stderr}")


def main():
    bin_dir = pathlib.Path(sys.argv[1])
    errors = []
    text = (ROOT / "docker-compose.yml").read_text()
    compose = YAML(typ="safe", pure=True).load(text)
    services, volumes = compose["services"], compose["volumes"]
    dockerfile = (ROOT / "packaging/Dockerfile").read_text()
    stages = set(re.findall(r"^FROM .* AS (\w+)$", dockerfile, re.M))

    used, lines = set(), 0
    for name, service in services.items():
        for need, how in service.get("depends_on", {}).items():
            if need not in services:
                errors.append(f"{name}: depends on {need}, which is not there")
            elif how["condition"] == "service_healthy" and "healthcheck" not in services[need]:
                errors.append(f"{name}: waits for {need} to be healthy, which has no health check")
            elif how["condition"] == "service_completed_successfully" and services[need].get("restart") != "no":
                errors.append(f"{name}: waits for {need} to end, which is restarted")
        mounts = set()
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            mounts.add(target)
            if source.startswith("."):
                if not (ROOT / source).exists():
                    errors.append(f"{name}: {source} is not there")
            elif source not in volumes:
                errors.append(f"{name}: volume {source} is not declared")
            else:
                used.add(source)
        if "build" in service:
            if service["build"]["target"] not in stages:
                errors.append(f"{name}: the Dockerfile has no stage {service['build']['target']}")
            for hardening in ("read_only", "init"):
                if service.get(hardening) is not True:
                    errors.append(f"{name}: no {hardening}")
            if service.get("cap_drop") != ["ALL"]:
                errors.append(f"{name}: keeps capabilities")
            if "user" in service and name != "prepare":
                errors.append(f"{name}: the image's user is the one to run as")
        for words in commands(service):
            if not words:
                continue
            lines += 1
            if words[0] in OURS:
                check(errors, bin_dir, name, words)
            for word in words:
                path = word.split("=")[-1]
                if path.startswith(SHARE):
                    file = ROOT / "packaging/compose" / path[len(SHARE):]
                    if not file.is_file() or (file.suffix == ".sh" and not file.stat().st_mode & 0o111):
                        errors.append(f"{name}: {path} is not in the image, or cannot be run")
                elif path.startswith(("/var/lib/countersign", "/run/countersign")):
                    if not any(path == m or path.startswith(m + "/") for m in mounts):
                        errors.append(f"{name}: {path} is in no volume")
        for key in service.get("environment", {}):
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY", key) and not key.endswith("_FILE"):
                errors.append(f"{name}: {key} is a secret in the environment")
    for unused in set(volumes) - used:
        errors.append(f"volume {unused} is not used")
    if len(services["countersign-1"]["networks"]["default"]["aliases"]) != 1:
        errors.append("the nodes have one name together")
    if re.search(r"password\s*[:=]\s*\S", text, re.I):
        errors.append("a password stands in docker-compose.yml")

    for script in sorted((ROOT / "packaging/compose").glob("*.sh")):
        for words in scripted(script):
            lines += 1
            check(errors, bin_dir, script.name, words)
    # Of the Dockerfile: what is copied exists, and so do the packages that are built.
    for source in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.M):
        if not (ROOT / source).exists():
            errors.append(f"Dockerfile: {source} is not there")
    packages = set(re.findall(r"--package (\S+)", dockerfile))
    manifests = {re.search(r'name = "(.*?)"', m.read_text())[1] for m in ROOT.glob("crates/*/Cargo.toml")}
    for package in packages - manifests:
        errors.append(f"Dockerfile: no package {package}")
    # Of the units: command lines that the programs take.
    for unit in sorted((ROOT / "packaging/systemd").glob("*.service")):
        for line in re.findall(r"^Exec\w+=/usr/bin/(.*)$", unit.read_text(), re.M):
            lines += 1
            # A user's name becomes a number on the machine it is on.
            check(errors, bin_dir, unit.name, ["0" if w == "countersign" else w for w in line.split()])

    if lines < 15:
        errors.append(f"only {lines} command lines were found")
    print(*errors, f"{len(services)} services, {lines} command lines", sep="\n")
    return bool(errors)


sys.exit(main())
