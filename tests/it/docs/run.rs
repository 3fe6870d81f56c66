//! Runs the blocks of a page, in order, in one shell, against a running service.

use super::markdown::{Block, Page};
use crate::support::{REPOSITORY, Stack, cli::Cli, copy_exe, job_spec, pem_of, program, text};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the pages need: a service, a tenant, and names for what they call by example.
pub struct World<'a> {
    stack: &'a Stack,
    root: PathBuf,
    admin: Cli,
    key: String,
}

/// The roles of the tag `as=`, and whatever our surroundings have that a reader's have not: issuers
/// with a private CA.
const PRELUDE: &str = r#"
set -euo pipefail
mint_person() { countersign-testkit issuer mint --state "$PEOPLE" --sub "$1" --aud countersign --amr mfa; }
mint_job() {
    countersign-testkit issuer "$1" --state "$PLATFORM" --sub "repo:any/app:environment:release" --aud "$AUDIENCE" \
        --claim environment=release "${@:2}"
}
github_claims=(--claim repository_id="$REPOSITORY" --claim event_name=push --claim ref=refs/tags/v1.0)
gitlab_claims=(--claim project_id=815 --claim job_project_id=815 --claim ref_protected=true --claim pipeline_source=push)
role() {
    unset COUNTERSIGN_ID_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN
    export COUNTERSIGN_HOME=$WORK/home-$1
    case $1 in
    operator) mint_person olga >token.jwt ;;
    admin)
        mint_person acme-admin >"$WORK/admin.jwt"
        command countersign --tenant acme --server "$SERVER" --ca-file "$SERVER_CA" login --token-file "$WORK/admin.jwt" >/dev/null
        ;;
    job) COUNTERSIGN_ID_TOKEN=$(mint_job mint "${github_claims[@]}"); export COUNTERSIGN_ID_TOKEN ;;
    gitlab)
        COUNTERSIGN_ID_TOKEN=$(mint_job mint "${gitlab_claims[@]}")
        export COUNTERSIGN_ID_TOKEN CI_PIPELINE_ID=77
        ;;
    github)
        mint_job job "${github_claims[@]}" >job.json
        eval "$(python3 -c 'import json, shlex
for k, v in json.load(open("job.json")).items(): print(f"export {k}={shlex.quote(v)}")')"
        export GITHUB_RUN_ID=42
        ;;
    nobody) ;;
    *) echo "no role $1" >&2; exit 99 ;;
    esac
}
countersign() {
    case " $* " in
    *" bootstrap "* | *" issuers add "* | *" tenant create "*) set -- "$@" --issuer-ca-file "$COUNTERSIGN_ISSUER_CA_FILE" ;;
    esac
    command countersign "$@"
}
# approve WHO FILE PID: approves the device login that a command waits with, by the code it shows.
approve() {
    for _ in $(seq 300); do
        code=$(sed -n 's/.*the code //p' "$2")
        [ -n "$code" ] && break
        kill -0 "$3" || return
        sleep 0.1
    done
    countersign-testkit issuer approve --state "$PEOPLE" --user-code "$code" --sub "$1" --amr mfa
    wait "$3"
}
# ready FILE PID: waits for a program's first line.
ready() {
    for _ in $(seq 600); do
        [ -s "$1" ] && return
        kill -0 "$2" || return
        sleep 0.1
    done
    return 1
}
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait' EXIT
"#;

impl<'a> World<'a> {
    /// Makes the tenant `acme` and a key for the pages that speak of one.
    pub fn new(stack: &'a Stack, root: &Path) -> Self {
        let admin = stack.tenant("acme");
        let key = stack.signer(&admin, "acme/documented", "ec-p256");
        Self {
            stack,
            root: root.to_owned(),
            admin,
            key,
        }
    }

    /// Runs what can be run; returns how many blocks that were.
    pub fn run(&self, page: &Page) -> usize {
        let blocks: Vec<_> = page
            .blocks
            .iter()
            .filter(|b| b.skip.is_none() && (b.language == "sh" || b.file.is_some()))
            .collect();
        if blocks.is_empty() {
            return 0;
        }
        // The operators' pages are about the same machines.
        let operators = "docs/operators";
        let place = page.path.starts_with(operators).then_some(operators);
        let folder = format!("docs/{}", place.unwrap_or(&page.path));
        let new = !self.stack.path(&folder).exists();
        let work = self.stack.folder(&folder);
        if new {
            self.furnish(&work);
        }
        let mut script = PRELUDE.to_owned();
        for block in &blocks {
            self.add(&mut script, page, block, &work);
        }
        let file = work.join("page.sh");
        std::fs::write(&file, script).expect("the script");
        let bin = program("countersign");
        let path = format!(
            "{}:{}",
            text(bin.parent().expect("its folder")),
            std::env::var("PATH").unwrap_or_default()
        );
        let log = std::fs::File::create(work.join("page.log")).expect("the log");
        let status = Command::new("bash")
            .arg(&file)
            .current_dir(&work)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &work)
            .env("WORK", &work)
            .env("SERVER", self.stack.url())
            .env("SERVER_CA", self.stack.ca_file())
            .env("COUNTERSIGN_SERVER", self.stack.url())
            .env("COUNTERSIGN_CA_FILE", self.stack.ca_file())
            .env("COUNTERSIGN_ISSUER_CA_FILE", work.join("issuers.pem"))
            .env("PEOPLE", self.stack.path("people"))
            .env("PLATFORM", self.stack.path("platform"))
            .env("AUDIENCE", self.stack.url())
            .env("REPOSITORY", REPOSITORY)
            .env("key", &self.key)
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log)
            .status()
            .expect("bash runs");
        assert!(
            status.success(),
            "{}: {status}\n{}",
            page.path,
            last_lines(&work.join("page.log"))
        );
        blocks.iter().filter(|b| b.language == "sh").count()
    }

    /// What the pages take for granted in the reader's folder.
    fn furnish(&self, work: &Path) {
        let read = |p: PathBuf| std::fs::read_to_string(p).expect("a file of the stack");
        let issuers = read(self.stack.people.ca_file()) + &read(self.stack.platform.ca_file());
        std::fs::write(work.join("issuers.pem"), issuers).expect("issuers.pem");
        for folder in ["hsm-config", "packaging", "tests"] {
            std::os::unix::fs::symlink(self.root.join(folder), work.join(folder)).expect("a link");
        }
        copy_exe(work, "app.exe", "t64.exe");
        std::fs::create_dir_all(work.join("dist")).expect("a folder");
        for name in ["dist/one.bin", "dist/two.bin"] {
            std::fs::write(work.join(name), name).expect("a file");
        }
        copy_exe(work, "setup.exe", "w64.exe");
        let mut job = job_spec(REPOSITORY);
        job.aud = self.stack.url();
        let token = self.stack.platform.mint(&job).expect("a token");
        std::fs::write(work.join("job-token.jwt"), token).expect("job-token.jwt");
        // For the page of the demo CA.
        let keys = self.admin.json(&["service", "keys"]);
        let pem = pem_of(
            "PUBLIC KEY",
            keys["statement"]["spki"].as_str().expect("spki"),
        );
        std::fs::write(work.join("service-key.pem"), pem).expect("service-key.pem");
        let out = text(&work.join("to-the-ca"));
        let subject = crate::support::SUBJECT;
        self.stack.person("acme-admin", Some("acme")).ok(&[
            &[
                "csr",
                "export",
                &self.key,
                "--ca-audience",
                "demo-ca",
                "--out",
                &out,
            ][..],
            &subject,
        ]
        .concat());
        for (from, to) in [
            ("request.csr.pem", "acme.csr"),
            ("statement.der", "acme.statement"),
        ] {
            std::fs::copy(work.join("to-the-ca").join(from), work.join(to)).expect("a copy");
        }
    }

    fn add(&self, script: &mut String, page: &Page, block: &Block, work: &Path) {
        let place = format!("{}:{}", page.path, block.line);
        let commands = self.real_names(&block.text, work);
        let role = block.role.as_deref().unwrap_or(match page.path.as_str() {
            p if p.starts_with("docs/operators/") => "operator",
            p if p.starts_with("docs/subscribers/") => "admin",
            _ => "nobody",
        });
        let line = |script: &mut String, text: &str| writeln!(script, "{text}").expect("memory");
        line(script, &format!("echo \"### {place} (after $SECONDS s)\""));
        if let Some(file) = &block.file {
            let path = self.real_names(file, work);
            line(
                script,
                &format!("cat >'{path}' <<'END-OF-FILE'\n{commands}END-OF-FILE"),
            );
            // The certificate is the reader's own; here it is the one of the page's first deployment.
            line(
                script,
                &format!("cp -n service/tls/*.pem \"$(dirname '{path}')/tls/\""),
            );
            return;
        }
        line(script, &format!("role {role}"));
        if block.background {
            // `exec`, so that what is killed at the end is the program itself.
            let commands = commands.replace("\ncountersign", "\nexec countersign");
            let commands = commands
                .strip_prefix("countersign")
                .map_or(commands.clone(), |c| format!("exec countersign{c}"));
            let out = format!("out-{}-{}", page.path.replace('/', "-"), block.line);
            line(
                script,
                &format!("( {commands} ) >{out} &\nstarted+=($!)\nready {out} $!"),
            );
        } else if let Some(who) = &block.approve {
            let err = format!("login-{}-{}", page.path.replace('/', "-"), block.line);
            line(
                script,
                &format!("( {commands} ) 2>{err} &\napprove {who} {err} $!"),
            );
        } else if block.exit != 0 {
            let code = block.exit;
            line(
                script,
                &format!(
                    "code=0\n( {commands} ) || code=$?\n[ $code = {code} ] || {{ echo \"ended with $code\"; exit 1; }}"
                ),
            );
        } else {
            line(script, &commands);
        }
    }

    /// The real names behind the pages' examples.
    fn real_names(&self, commands: &str, work: &Path) -> String {
        let work = text(work);
        let (first, second) = (self.port_of(&work, 0), self.port_of(&work, 1));
        let module = text(&countersign_testkit::softhsm::module().expect("SoftHSM2"));
        let names = [
            ("https://sign.example.com", self.stack.url()),
            (
                "https://login.example.com",
                self.stack.people.url().to_owned(),
            ),
            (
                "https://token.actions.githubusercontent.com",
                self.stack.platform.url().to_owned(),
            ),
            ("https://gitlab.com", self.stack.platform.url().to_owned()),
            (
                "https://ci.example.com",
                self.stack.platform.url().to_owned(),
            ),
            (
                "http://timestamp.example.com",
                self.stack.tsa.url().to_owned(),
            ),
            ("127.0.0.1:8443", format!("127.0.0.1:{first}")),
            ("localhost:8443", format!("localhost:{first}")),
            ("0.0.0.0:443", format!("127.0.0.1:{second}")),
            ("/etc/countersign", format!("{work}/etc")),
            ("/var/lib/countersign", format!("{work}/var")),
            ("/media/", format!("{work}/media/")),
            ("/usr/lib/softhsm/libsofthsm2.so", module),
        ];
        names
            .iter()
            .fold(commands.to_owned(), |text, (example, real)| {
                text.replace(example, real)
            })
    }

    /// A port of the page's own, the same each time it is asked for.
    fn port_of(&self, work: &str, which: usize) -> u16 {
        let file = PathBuf::from(work).join(format!("port-{which}"));
        if let Ok(text) = std::fs::read_to_string(&file) {
            return text.parse().expect("a port");
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a port")
            .port();
        std::fs::write(&file, port.to_string()).expect("its file");
        port
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
