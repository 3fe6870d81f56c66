//! The attestation object that a `device-attest-01` challenge is answered with: CBOR
//! `{fmt: "tpm", attStmt: {ver, alg, x5c, sig, certInfo, pubArea}}` (draft-acme-device-attest §5;
//! WebAuthn Level 2 §8.3). One shape of five kinds of values: no library is needed to write it.

use countersign_core::ports::evidence::DeviceEvidence;

/// Longest part. A chain of RSA-4096 certificates stays far below it.
const MAX_PART: usize = 16 * 1024;
/// Most certificates.
const MAX_CHAIN: usize = 8;

/// CBOR major types (RFC 8949 §3.1).
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Writes it.
///
/// # Errors
/// In words, what is not as it should be in the evidence.
pub(super) fn object(evidence: &DeviceEvidence) -> Result<Vec<u8>, String> {
    let certification = &evidence.certification;
    if !(1..=MAX_CHAIN).contains(&evidence.chain.len()) {
        return Err(format!(
            "{} certificates with the attestation key's, 1 to {MAX_CHAIN} are sent",
            evidence.chain.len()
        ));
    }
    let parts = [
        &certification.attest,
        &certification.signature,
        &certification.public,
    ];
    let long = |part: &Vec<u8>| part.len() > MAX_PART;
    if parts.into_iter().chain(&evidence.chain).any(long) {
        return Err(format!("a part is longer than {MAX_PART} bytes"));
    }
    let algorithm = cose_algorithm(&certification.signature)?;

    let mut out = Vec::new();
    head(&mut out, MAP, 2);
    text(&mut out, "fmt");
    text(&mut out, "tpm");
    text(&mut out, "attStmt");
    head(&mut out, MAP, 6);
    text(&mut out, "ver");
    text(&mut out, "2.0");
    text(&mut out, "alg");
    // A negative integer n is written as -1 - n.
    head(&mut out, NEGATIVE, algorithm);
    text(&mut out, "x5c");
    head(&mut out, ARRAY, evidence.chain.len());
    for certificate in &evidence.chain {
        bytes(&mut out, certificate);
    }
    // WebAuthn §8.3: "in the form of a TPMT_SIGNATURE structure".
    text(&mut out, "sig");
    bytes(&mut out, &certification.signature);
    text(&mut out, "certInfo");
    bytes(&mut out, &certification.attest);
    text(&mut out, "pubArea");
    bytes(&mut out, &certification.public);
    Ok(out)
}

/// The COSE number of a `TPMT_SIGNATURE`'s algorithm and hash, as -1 - n (IANA "COSE Algorithms";
/// TPM 2.0 Library part 2 §11.3.4).
fn cose_algorithm(signature: &[u8]) -> Result<usize, String> {
    let Some((&[a, b, c, d], _)) = signature.split_first_chunk::<4>() else {
        return Err("the signature is no TPMT_SIGNATURE".to_owned());
    };
    let (algorithm, hash) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match (algorithm, hash) {
        // RS256, RS384, RS512
        (0x0014, 0x000b) => Ok(256),
        (0x0014, 0x000c) => Ok(257),
        (0x0014, 0x000d) => Ok(258),
        // PS256, PS384, PS512
        (0x0016, 0x000b) => Ok(36),
        (0x0016, 0x000c) => Ok(37),
        (0x0016, 0x000d) => Ok(38),
        // ES256, ES384, ES512
        (0x0018, 0x000b) => Ok(6),
        (0x0018, 0x000c) => Ok(34),
        (0x0018, 0x000d) => Ok(35),
        _ => Err(format!(
            "a signature of algorithm 0x{algorithm:04x} with hash 0x{hash:04x} has no COSE number here"
        )),
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    head(out, TEXT, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, BYTES, value.len());
    out.extend_from_slice(value);
}

/// The shortest head of a major type and its argument (RFC 8949 §4.2.1). The bounds above keep
/// arguments below 65,536.
fn head(out: &mut Vec<u8>, major: u8, argument: usize) {
    let major = major << 5;
    match (u8::try_from(argument), u16::try_from(argument)) {
        (Ok(small @ 0..=23), _) => out.push(major | small),
        (Ok(byte), _) => out.extend_from_slice(&[major | 24, byte]),
        (Err(_), word) => {
            out.push(major | 25);
            out.extend_from_slice(&word.unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::ports::evidence::KeyCertification;

    fn evidence() -> DeviceEvidence {
        DeviceEvidence {
            certification: KeyCertification {
                attest: vec![0xff],
                signature: [&[0, 0x14, 0, 0x0b][..], &[7; 300]].concat(),
                public: vec![1; 30],
            },
            chain: vec![vec![2], vec![3]],
        }
    }

    #[test]
    fn the_object_is_written_byte_for_byte() {
        let mut wanted = hex("a2 63 666d74 63 74706d 67 61747453746d74 a6");
        wanted.extend(hex("63 766572 63 322e30 63 616c67 390100"));
        wanted.extend(hex("63 783563 82 4102 4103"));
        wanted.extend(hex("63 736967 590130 0014000b"));
        wanted.extend([7; 300]);
        wanted.extend(hex("68 63657274496e666f 41ff 67 70756241726561 581e"));
        wanted.extend([1; 30]);
        assert_eq!(object(&evidence()).unwrap(), wanted);
    }

    #[test]
    fn what_has_no_place_in_it_is_refused() {
        let mut other = evidence();
        other.certification.signature = vec![0, 0x14, 0, 4];
        assert!(
            object(&other)
                .unwrap_err()
                .contains("0x0014 with hash 0x0004")
        );
        other.certification.signature = vec![0, 0x14, 0];
        assert_eq!(
            object(&other).unwrap_err(),
            "the signature is no TPMT_SIGNATURE"
        );
        let mut long = evidence();
        long.chain.push(vec![0; MAX_PART + 1]);
        assert!(object(&long).unwrap_err().contains("longer"));
        for chain in [vec![], vec![vec![1]; 9]] {
            let odd = DeviceEvidence {
                chain,
                ..evidence()
            };
            assert!(object(&odd).unwrap_err().contains("certificates"));
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
