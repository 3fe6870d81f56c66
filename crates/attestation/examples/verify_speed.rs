//! Verifications a second per format on one core, on evidence that testkit writes, and how the cost
//! grows with the size of the input. `--json` prints the same for machines; a name picks the formats
//! that have it in theirs, for a profiler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use countersign_attestation::{
    Anchors, File, Policy, Question, SubjectFile, UnixSeconds, Verdict, verify,
};
use countersign_testkit_evidence::crypto4a::Crypto4A;
use countersign_testkit_evidence::fortanix::Fortanix;
use countersign_testkit_evidence::marvell::Marvell;
use countersign_testkit_evidence::nshield::{Spec, World};
use countersign_testkit_evidence::pkix::Pkix;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use countersign_testkit_evidence::{Key, Kind};
use std::time::{Duration, Instant};

struct Case {
    name: &'static str,
    subject: Vec<u8>,
    anchors: Anchors,
    files: Vec<Vec<u8>>,
}

impl Case {
    fn new(name: &'static str, subject: &[u8], roots: &[Vec<u8>], files: Vec<Vec<u8>>) -> Self {
        let mut anchors = Anchors::pinned();
        for root in roots {
            anchors.add_file("test anchor", root).expect("anchor");
        }
        Self {
            name,
            subject: subject.to_vec(),
            anchors,
            files,
        }
    }

    fn verdict(&self, policy: &Policy) -> Verdict {
        let evidence: Vec<File<'_>> = self
            .files
            .iter()
            .map(|bytes| File {
                name: "file",
                bytes,
            })
            .collect();
        let subject = File {
            name: "subject",
            bytes: &self.subject,
        };
        let question = Question {
            subject: SubjectFile::PublicKey(subject),
            evidence: &evidence,
            // 2026-11-22.
            at: UnixSeconds::new(1_795_305_600).expect("time"),
            nonce: None,
            policy,
            anchors: &self.anchors,
        };
        verify(&question).verdict
    }

    /// Verifications a second: the best of three runs, since others use the machine as well.
    fn rate(&self, run: Duration) -> f64 {
        let policy = Policy::origin();
        let mut best = 0.0_f64;
        for _ in 0..3 {
            let (start, mut n) = (Instant::now(), 0_u32);
            while start.elapsed() < run {
                assert_eq!(self.verdict(&policy), Verdict::Accept, "{}", self.name);
                n += 1;
            }
            best = best.max(f64::from(n) / start.elapsed().as_secs_f64());
        }
        best
    }

    fn bytes(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }
}

fn cases() -> Vec<Case> {
    let h = YubiHsm2::default();
    let p = YubiKeyPiv::default();
    let s = Securosys::default();
    let l = ThalesLuna::rsa();
    let m = Marvell::default();
    let t = Tpm2::default();
    let e = Pkix::default();
    let f = Fortanix::default();
    let c = Crypto4A::default();
    let (spec, world) = (
        Spec::new(Key::named(Kind::P256, "nshield subject")),
        World::ecdsa(),
    );
    let nshield_root = world.root.spki().to_vec();
    let nshield = spec.bundle(&world).json();
    vec![
        Case::new(
            "yubihsm2 (3 certificates, RSA)",
            h.key.spki(),
            &[h.root()],
            h.files(),
        ),
        Case::new("yubikey-piv", p.key.spki(), &[p.root()], p.files()),
        Case::new("tpm2", t.key.spki(), &[t.root()], t.files()),
        Case::new(
            "marvell (4 certificates, RSA)",
            m.key.spki(),
            &[m.maker(), m.owner()],
            m.files(),
        ),
        Case::new("securosys", s.key.spki(), &[s.root()], s.files()),
        Case::new("thales-luna", l.key.spki(), &[l.root()], vec![l.pkc()]),
        Case::new("nshield", spec.key.spki(), &[nshield_root], vec![nshield]),
        Case::new("fortanix", f.key.spki(), &[f.root()], vec![f.json()]),
        Case::new("crypto4a", c.key.spki(), &[c.root()], vec![c.message()]),
        Case::new("pkix", e.key.spki(), &[e.root()], vec![e.encode()]),
    ]
}

/// YubiHSM 2 evidence with a file beside it that is none, of each size.
fn growth(run: Duration) -> Vec<(usize, f64)> {
    [60_000, 240_000, 960_000]
        .into_iter()
        .map(|size| {
            let h = YubiHsm2::default();
            let mut files = h.files();
            files.push(vec![0xff; size]);
            let case = Case::new("growth", h.key.spki(), &[h.root()], files);
            (size, 1.0 / case.rate(run))
        })
        .collect()
}

fn main() {
    let json = std::env::args().any(|a| a == "--json");
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let run = Duration::from_millis(300);
    let rows: Vec<(&str, usize, f64)> = cases()
        .iter()
        .filter(|c| only.as_ref().is_none_or(|name| c.name.contains(name)))
        .map(|c| (c.name, c.bytes(), c.rate(run)))
        .collect();
    let growth = match only {
        None => growth(run),
        Some(_) => Vec::new(),
    };
    if json {
        let formats: Vec<_> = rows
            .iter()
            .map(|(name, bytes, rate)| {
                serde_json::json!({"format": name, "bytes": bytes, "per_second": rate})
            })
            .collect();
        let growth: Vec<_> = growth
            .iter()
            .map(|(size, s)| serde_json::json!({"extra_bytes": size, "seconds": s}))
            .collect();
        println!(
            "{}",
            serde_json::json!({"formats": formats, "growth": growth})
        );
        return;
    }
    println!("{:<32} {:>8} {:>10}", "evidence", "bytes", "verify/s");
    for (name, bytes, rate) in rows {
        println!("{name:<32} {bytes:>8} {rate:>10.0}");
    }
    println!(
        "\n{:<32} {:>10} {:>10}",
        "with so many bytes beside it", "µs", "µs/KiB"
    );
    for (size, s) in growth {
        let us = s * 1e6;
        let kib = f64::from(u32::try_from(size).unwrap_or(u32::MAX)) / 1024.0;
        println!("{size:<32} {us:>10.0} {:>10.2}", us / kib);
    }
}
