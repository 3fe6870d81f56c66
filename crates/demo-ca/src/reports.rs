//! What a CA files of each issuance: every file as it was received, the whole result, and a page
//! for people (docs/ca/issuance-pipeline.md, Record).

use crate::error::Error;
use crate::files;
use crate::orders::Order;
use countersign_attestation::request::Submission;
use countersign_attestation::{AttestationResult, UnixSeconds, report};
use countersign_x509::cert::Certificate;
use countersign_x509::profile::ProfileFinding;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The folder of all reports.
pub(crate) struct Reports {
    dir: PathBuf,
}

/// One issuance.
pub(crate) struct Issuance<'a> {
    pub(crate) order: &'a Order,
    pub(crate) submission: &'a Submission<'a>,
    pub(crate) result: &'a AttestationResult,
    pub(crate) certificate: &'a Certificate,
    /// What the lint of the certificate found.
    pub(crate) lint: &'a [ProfileFinding],
    pub(crate) at: UnixSeconds,
}

impl Reports {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            dir: state.join("reports"),
        }
    }

    /// Files an issuance under the certificate's serial number. `record.json` is written last: a
    /// folder without it is of an issuance that was cut off, whose certificate never left.
    pub(crate) fn file(&self, i: &Issuance<'_>) -> Result<(), Error> {
        let dir = self.dir.join(i.certificate.serial_hex());
        files::make_dir(&dir)?;
        let write = |name: &str, bytes: &[u8]| files::write(&dir.join(name), bytes, 0o600);
        write("request.csr", i.submission.csr)?;
        if let Some(statement) = i.submission.statement {
            write("statement.der", statement)?;
        }
        for (n, evidence) in i.submission.evidence.iter().enumerate() {
            write(&format!("evidence-{n}.bin"), evidence)?;
        }
        write("certificate.der", i.certificate.der())?;
        write("result.json", &pretty(&dir, i.result)?)?;
        write("report.html", report::html(i.result).as_bytes())?;
        let lint: Vec<String> = i.lint.iter().map(ToString::to_string).collect();
        let device = i.order.device.as_ref().and_then(|d| d.certified.as_ref());
        let record = json!({
            "serial": i.certificate.serial_hex(),
            "order": i.order.id,
            "subscriber": i.order.subscriber,
            "audience": i.order.audience,
            "issued": i.at,
            "lint": {
                "profile": "CSBR §7.1.2.3, countersign-x509",
                "findings": lint,
            },
            "attestation_key": device.map(|d| json!({
                "serial": d.serial,
                "certified": d.at,
                "endorsement_key_sha256": d.endorsement_key,
            })),
            "made_by": concat!("countersign-demo-ca ", env!("CARGO_PKG_VERSION")),
        });
        write("record.json", &pretty(&dir, &record)?)
    }
}

fn pretty(dir: &Path, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Content {
        path: dir.to_owned(),
        problem: e.to_string(),
    })
}
