//! Where evidence travels: in the request's attestation attribute if its format has a place there,
//! beside the request if not.

use countersign_attestation::bundle::{AttestationBundle, BundleError};
use countersign_attestation::statement::service_statement_oid;
use countersign_attestation::verify::{Content, File, Pool};
use countersign_core::ports::rows::EvidenceFile;

/// Evidence, each piece in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// The attestation attribute's value: our statement first.
    pub value: Vec<u8>,
    /// What goes beside the request, as its vendor's tool wrote it.
    pub beside: Vec<Vec<u8>>,
}

/// Puts attestation bundles (IETF lamps csr-attestation) into the attribute, beside our statement, and
/// leaves all else as it is. What does not fit within the bundle's bounds stays beside too: nothing is
/// left out.
pub(super) fn place(statement: &[u8], files: &[EvidenceFile]) -> Result<Placed, BundleError> {
    let mut bundle = AttestationBundle::of_statement(statement);
    let mut value = bundle.encode()?;
    let mut beside = Vec::new();
    for file in files {
        let with = bundle_in(file).and_then(|theirs| {
            let mut with = bundle.clone();
            with.attestations.extend(theirs.attestations);
            for c in theirs.certs {
                if !with.certs.contains(&c) {
                    with.certs.push(c);
                }
            }
            let value = with.encode().ok()?;
            Some((with, value))
        });
        match with {
            Some((with, longer)) => (bundle, value) = (with, longer),
            None => beside.push(file.bytes.clone()),
        }
    }
    Ok(Placed { value, beside })
}

/// The bundle that a file is, as DER. One with a service statement in it is not taken over: a request
/// carries one statement, ours for this order.
fn bundle_in(file: &EvidenceFile) -> Option<AttestationBundle> {
    let pool = Pool::of(&[File {
        name: &file.name,
        bytes: &file.bytes,
    }]);
    // As the verifier sees it: whoever reads the request finds the same parts there.
    let (_, first) = pool.parts().next()?;
    if !matches!(first.content, Content::Bundle) || first.bytes != file.bytes {
        return None;
    }
    let bundle = AttestationBundle::parse(&file.bytes).ok()?;
    let ours = service_statement_oid();
    bundle
        .attestations
        .iter()
        .all(|a| a.kind != ours)
        .then_some(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_attestation::bundle::Attestation;
    use sha2::{Digest as _, Sha256};

    const STATEMENT: &[u8] = &[0x30, 0x03, 0x02, 0x01, 0x07];

    fn file(name: &str, bytes: Vec<u8>) -> EvidenceFile {
        EvidenceFile {
            name: name.to_owned(),
            sha256: Sha256::digest(&bytes).into(),
            bytes,
        }
    }

    fn tcg(n: usize) -> AttestationBundle {
        AttestationBundle {
            attestations: vec![
                Attestation {
                    kind: countersign_attestation::Oid::from_content(&[
                        0x67, 0x81, 0x05, 0x14, 0x01
                    ])
                    .unwrap(),
                    stmt: vec![0x04, 0x01, 0xaa],
                    hint: None,
                };
                n
            ],
            certs: vec![vec![0x30, 0x00]],
        }
    }

    #[test]
    fn a_bundle_goes_inside_and_all_else_beside() {
        let bundle = tcg(2).encode().unwrap();
        let files = [
            file("device.pem", b"-----BEGIN".to_vec()),
            file("tpm.der", bundle.clone()),
            file("again.der", bundle),
        ];
        let placed = place(STATEMENT, &files).unwrap();
        assert_eq!(placed.beside, [b"-----BEGIN".to_vec()]);
        let inside = AttestationBundle::parse(&placed.value).unwrap();
        assert_eq!(inside.attestations.len(), 5);
        assert_eq!(inside.service_statements().next(), Some(STATEMENT));
        assert_eq!(inside.certs.len(), 1, "each certificate once");
    }

    #[test]
    fn what_does_not_fit_stays_beside_and_nothing_is_lost() {
        let bundle = tcg(10).encode().unwrap();
        let files = [file("a", bundle.clone()), file("b", bundle.clone())];
        let placed = place(STATEMENT, &files).unwrap();
        assert_eq!(placed.beside, [bundle]);
        let inside = AttestationBundle::parse(&placed.value).unwrap();
        assert_eq!(inside.attestations.len(), 11);
    }

    #[test]
    fn a_foreign_service_statement_never_gets_into_the_request() {
        let theirs = AttestationBundle::of_statement(&[0x05, 0x00])
            .encode()
            .unwrap();
        let placed = place(STATEMENT, &[file("theirs", theirs.clone())]).unwrap();
        assert_eq!(placed.beside, [theirs]);
        let inside = AttestationBundle::parse(&placed.value).unwrap();
        assert_eq!(inside.service_statements().count(), 1);
    }
}
