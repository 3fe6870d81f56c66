//! What openssl and osslsigncode make: their signed attributes are understood, their requests,
//! certificates, lists and timestamps are refused by name.

use super::*;
use crate::tlv::Cursor;
use der::Tag;
use std::path::Path;
use std::process::Command;

fn run(dir: &Path, program: &str, args: &str) {
    let out = Command::new(program)
        .args(args.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    assert!(
        out.status.success(),
        "{program} {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// A key, a certificate and some text to sign, all by openssl.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("openssl.cnf"),
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nC=DE\nO=Example\nCN=Judge\n\
         [ext]\nextendedKeyUsage=codeSigning\n\
         [ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=1\n\
         [tsa]\ndefault_tsa=t\n[t]\nserial=serial\ndefault_policy=1.2.3\ndigests=sha256\n\
         signer_digest=sha256\naccuracy=secs:1\n[tsaext]\nextendedKeyUsage=critical,timeStamping\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("file"), "any file").unwrap();
    std::fs::write(dir.path().join("index.txt"), "").unwrap();
    std::fs::write(dir.path().join("serial"), "01").unwrap();
    run(
        dir.path(),
        "openssl",
        "req -x509 -config openssl.cnf -extensions ext -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
         -nodes -keyout key.pem -out cert.pem -days 30",
    );
    run(
        dir.path(),
        "openssl",
        "x509 -in cert.pem -outform DER -out cert.der",
    );
    dir
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(name)).unwrap()
}

/// The first signer's signed attributes as SET OF, and the eContent, of a ContentInfo.
fn signed_data(der: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    use crate::tlv::context;
    let mut info = Cursor::over("cms", der)
        .unwrap()
        .enter(Tag::Sequence, "")
        .unwrap();
    info.oid("").unwrap();
    let mut sd = info
        .enter(context(0), "")
        .unwrap()
        .enter(Tag::Sequence, "")
        .unwrap();
    sd.any().unwrap();
    sd.any().unwrap();
    let mut encap = sd.enter(Tag::Sequence, "").unwrap();
    encap.oid("").unwrap();
    let content = (!encap.is_finished()).then(|| encap.expect(context(0), "").unwrap().to_vec());
    while sd.peek() != Some(Tag::Set) {
        sd.any().unwrap();
    }
    let mut signer = sd
        .enter(Tag::Set, "")
        .unwrap()
        .enter(Tag::Sequence, "")
        .unwrap();
    for _ in 0..3 {
        signer.any().unwrap();
    }
    let attributes = signer.expect(context(0), "").unwrap();
    (write(tag::SET, &[attributes]), content)
}

#[test]
fn what_openssl_cms_signs_is_understood() {
    let dir = scene();
    for (extra, certs) in [("", false), ("-cades", true)] {
        run(
            dir.path(),
            "openssl",
            &format!(
                "cms -sign -binary -nosmimecap -md sha256 -signer cert.pem -inkey key.pem -in file \
                 -outform DER -out file.p7s {extra}"
            ),
        );
        let (signed_attributes, _) = signed_data(&read(dir.path(), "file.p7s"));
        let parsed = parse(
            &Submission::Cms { signed_attributes },
            SHA256,
            Some(&read(dir.path(), "cert.der")),
        )
        .unwrap_or_else(|e| panic!("{extra} {certs}: {e}"));
        assert_eq!(parsed.artifact, Some(digest_of(SHA256, b"any file")));
    }
    // Its S/MIME capabilities say nothing about code.
    run(
        dir.path(),
        "openssl",
        "cms -sign -binary -md sha256 -signer cert.pem -inkey key.pem -in file -outform DER \
         -out file.p7s",
    );
    let (signed_attributes, _) = signed_data(&read(dir.path(), "file.p7s"));
    assert_eq!(
        parse(&Submission::Cms { signed_attributes }, SHA256, None),
        Err(ContentRefusal::NotAllowedAttribute {
            oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15")
        })
    );
}

#[test]
fn what_osslsigncode_signs_is_understood() {
    let dir = scene();
    std::fs::write(dir.path().join("in.exe"), tiny_pe()).unwrap();
    for extra in ["", "-n Acme -i https://acme.example/", "-comm"] {
        let _ = std::fs::remove_file(dir.path().join("out.exe"));
        run(
            dir.path(),
            "osslsigncode",
            &format!("sign -certs cert.pem -key key.pem -h sha256 {extra} -in in.exe -out out.exe"),
        );
        let signed = read(dir.path(), "out.exe");
        let table = u32::from_le_bytes(signed[0xE8..0xEC].try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(signed[table..table + 4].try_into().unwrap()) as usize;
        let padded = &signed[table + 8..table + length];
        let cms = Cursor::over("cms", padded).unwrap().raw().unwrap();
        let (signed_attributes, indirect_data) = signed_data(cms);
        let parsed = parse(
            &Submission::Authenticode {
                signed_attributes,
                indirect_data: indirect_data.unwrap(),
            },
            SHA256,
            Some(&read(dir.path(), "cert.der")),
        )
        .unwrap_or_else(|e| panic!("{extra}: {e}"));
        assert_eq!(parsed.content, ContentType::Authenticode);
    }
}

#[test]
fn requests_certificates_lists_and_timestamps_are_refused_by_name() {
    let dir = scene();
    let d = dir.path();
    run(
        d,
        "openssl",
        "req -new -config openssl.cnf -key key.pem -outform DER -out request.der",
    );
    run(
        d,
        "openssl",
        "ca -gencrl -config openssl.cnf -keyfile key.pem -cert cert.pem -out list.pem",
    );
    run(d, "openssl", "crl -in list.pem -outform DER -out list.der");
    run(
        d,
        "openssl",
        "req -x509 -config openssl.cnf -extensions tsaext -key key.pem -out tsa.pem -days 30",
    );
    run(d, "openssl", "ts -query -data file -sha256 -out query.tsq");
    run(
        d,
        "openssl",
        "ts -reply -config openssl.cnf -section t -queryfile query.tsq -signer tsa.pem -inkey key.pem \
         -token_out -out token.der",
    );
    let (ts_attributes, tst_info) = signed_data(&read(d, "token.der"));
    // eContent is an OCTET STRING around TSTInfo.
    let tst_info = tst_info.unwrap();
    let tst_info = Cursor::over("", &tst_info)
        .unwrap()
        .expect(Tag::OctetString, "")
        .unwrap()
        .to_vec();

    // The whole thing, and only the part that a CA or TSA would sign.
    let body = |name: &str| {
        let whole = read(d, name);
        let inside = Cursor::over("", &whole)
            .unwrap()
            .enter(Tag::Sequence, "")
            .unwrap()
            .raw()
            .unwrap()
            .to_vec();
        [whole, inside]
    };
    for part in ["signed_attributes", "indirect_data", "digest"] {
        let refusal = |bytes: Vec<u8>| {
            let (signed_attributes, _) = authenticode_with(&options());
            let submission = match part {
                "signed_attributes" => Submission::Cms {
                    signed_attributes: bytes,
                },
                "indirect_data" => Submission::Authenticode {
                    signed_attributes,
                    indirect_data: bytes,
                },
                _ => Submission::RawDigest { digest: bytes },
            };
            parse(&submission, SHA256, None).unwrap_err()
        };
        for bytes in body("request.der") {
            let field = part;
            assert_eq!(
                refusal(bytes),
                ContentRefusal::LooksLikeCertificateRequest { field }
            );
        }
        for bytes in body("cert.der") {
            let field = part;
            assert_eq!(
                refusal(bytes),
                ContentRefusal::LooksLikeCertificate { field }
            );
        }
        for bytes in body("list.der") {
            let field = part;
            assert_eq!(
                refusal(bytes),
                ContentRefusal::LooksLikeRevocationList { field }
            );
        }
        assert_eq!(
            refusal(tst_info.clone()),
            ContentRefusal::LooksLikeTimestamp { field: part }
        );
        for jwt in ["eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0", "eyJh.eyJz.c2ln"] {
            assert_eq!(
                refusal(jwt.as_bytes().to_vec()),
                ContentRefusal::LooksLikeJwt { field: part }
            );
        }
    }
    let submission = Submission::Cms {
        signed_attributes: ts_attributes,
    };
    assert_eq!(
        parse(&submission, SHA256, None),
        Err(ContentRefusal::LooksLikeTimestamp {
            field: "signed_attributes"
        })
    );
}

/// The smallest executable that osslsigncode signs: PE32+, one section.
fn tiny_pe() -> Vec<u8> {
    let mut pe = vec![0_u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3C, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &[0x64, 0x86, 1, 0]);
    put(0x54, &[0xF0, 0, 0x22, 0]);
    put(0x58, &[0x0B, 0x02]);
    put(0x58 + 60, &0x200_u32.to_le_bytes());
    put(0x58 + 108, &16_u32.to_le_bytes());
    let section = 0x58 + 0xF0;
    put(section, b".text");
    put(section + 16, &0x200_u32.to_le_bytes());
    put(section + 20, &0x200_u32.to_le_bytes());
    pe
}
