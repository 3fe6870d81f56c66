//! The values of the optional signed attributes, one type each: read strictly, written canonically.

use crate::attributes::FIELD;
use crate::certificate::{KeyKind, SignerCertificate};
use crate::tlv::{self, Cursor, context, context_primitive, tag};
use crate::{ContentRefusal, digest_of, oids};
use countersign_core::{HashAlgorithm, Micros, SignatureScheme};
use der::asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode, Encode, Tag};
use std::time::Duration;

/// Longest program name, in UTF-16 units; Windows shows it in the elevation prompt.
pub(crate) const MAX_PROGRAM_NAME: usize = 256;
/// Longest link in `SpcSpOpusInfo`.
pub(crate) const MAX_URL: usize = 1024;

/// `SpcStatementType`: who the publisher says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementType {
    Individual,
    Commercial,
}

impl StatementType {
    pub(crate) fn read(value: &[u8]) -> Result<Self, ContentRefusal> {
        const WHAT: &str = "SpcStatementType";
        let mut list = Cursor::whole(FIELD, value, Tag::Sequence, WHAT)?;
        let oid = list.oid(WHAT)?;
        list.finish()?;
        match oid {
            oids::SPC_INDIVIDUAL => Ok(Self::Individual),
            oids::SPC_COMMERCIAL => Ok(Self::Commercial),
            _ => Err(bad(
                oids::SPC_STATEMENT_TYPE,
                "neither individual nor commercial code signing",
            )),
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let oid = match self {
            Self::Individual => oids::SPC_INDIVIDUAL,
            Self::Commercial => oids::SPC_COMMERCIAL,
        };
        tlv::write(tag::SEQUENCE, &[&tlv::write_oid(oid)])
    }
}

/// `SpcString`: BMP or ASCII text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpcString {
    Unicode(String),
    Ascii(String),
}

impl SpcString {
    /// ASCII where it can be, as the common tools do.
    pub(crate) fn new(text: &str) -> Self {
        if text.is_ascii() {
            Self::Ascii(text.to_owned())
        } else {
            Self::Unicode(text.to_owned())
        }
    }

    fn check(&self) -> Result<(), ContentRefusal> {
        let (Self::Unicode(text) | Self::Ascii(text)) = self;
        if text.encode_utf16().count() > MAX_PROGRAM_NAME {
            Err(bad(oids::SPC_SP_OPUS_INFO, "program name too long"))
        } else if text.chars().any(char::is_control) {
            Err(bad(
                oids::SPC_SP_OPUS_INFO,
                "control character in program name",
            ))
        } else {
            Ok(())
        }
    }

    fn read(c: &mut Cursor<'_>) -> Result<Self, ContentRefusal> {
        let any = c.any()?;
        let text = match any {
            a if is(a, context_primitive(0)) => utf16(a.value()).map(Self::Unicode),
            a if is(a, context_primitive(1)) => ascii(a.value()).map(Self::Ascii),
            _ => None,
        };
        let text = text.ok_or(bad(oids::SPC_SP_OPUS_INFO, "program name is no SpcString"))?;
        text.check()?;
        Ok(text)
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Unicode(s) => {
                let be: Vec<u8> = s.encode_utf16().flat_map(u16::to_be_bytes).collect();
                tlv::write(tag::context_primitive(0), &[&be])
            }
            Self::Ascii(s) => tlv::write(tag::context_primitive(1), &[s.as_bytes()]),
        }
    }
}

/// `SpcSpOpusInfo`: the program's name and a link, as the publisher states them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OpusInfo {
    pub(crate) program_name: Option<SpcString>,
    pub(crate) url: Option<String>,
}

impl OpusInfo {
    /// The rules of [`Self::read`], for what we build ourselves.
    pub(crate) fn check(&self) -> Result<(), ContentRefusal> {
        if let Some(name) = &self.program_name {
            name.check()?;
        }
        if let Some(url) = &self.url
            && (url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(bad(
                oids::SPC_SP_OPUS_INFO,
                "link is not printable ASCII of at most 1024 bytes",
            ));
        }
        Ok(())
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, ContentRefusal> {
        const WHAT: &str = "SpcSpOpusInfo";
        let mut body = Cursor::whole(FIELD, value, Tag::Sequence, WHAT)?;
        let mut out = Self::default();
        if body.peek() == Some(context(0)) {
            let mut name = body.enter(context(0), WHAT)?;
            out.program_name = Some(SpcString::read(&mut name)?);
            name.finish()?;
        }
        if body.peek() == Some(context(1)) {
            let mut link = body.enter(context(1), WHAT)?;
            // SpcLink: only the url choice; a moniker may carry anything.
            let url = link.any()?;
            if !is(url, context_primitive(0)) {
                return Err(bad(oids::SPC_SP_OPUS_INFO, "link is not a URL"));
            }
            out.url =
                Some(ascii(url.value()).ok_or(bad(oids::SPC_SP_OPUS_INFO, "link is not ASCII"))?);
            link.finish()?;
        }
        body.finish()?;
        out.check()?;
        Ok(out)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let name = self
            .program_name
            .as_ref()
            .map(|n| tlv::write(tag::context(0), &[&n.write()]))
            .unwrap_or_default();
        let url = self
            .url
            .as_ref()
            .map(|u| {
                let url = tlv::write(tag::context_primitive(0), &[u.as_bytes()]);
                tlv::write(tag::context(1), &[&url])
            })
            .unwrap_or_default();
        tlv::write(tag::SEQUENCE, &[&name, &url])
    }
}

/// `signingTime` (RFC 5652 §11.3): `UTCTime` through 2049, `GeneralizedTime` after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningTime {
    der: Vec<u8>,
}

impl SigningTime {
    pub(crate) fn new(time: Micros) -> Result<Self, ContentRefusal> {
        let out_of_range = || bad(oids::SIGNING_TIME, "not a time between 1970 and 9999");
        let seconds = u64::try_from(time.seconds()).map_err(|_| out_of_range())?;
        let since_epoch = Duration::from_secs(seconds);
        let der = match UtcTime::from_unix_duration(since_epoch) {
            Ok(t) => t.to_der(),
            Err(_) => GeneralizedTime::from_unix_duration(since_epoch).and_then(|t| t.to_der()),
        };
        Ok(Self {
            der: der.map_err(|_| out_of_range())?,
        })
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, ContentRefusal> {
        let since_epoch = UtcTime::from_der(value)
            .map(|t| t.to_unix_duration())
            .or_else(|_| GeneralizedTime::from_der(value).map(|t| t.to_unix_duration()))
            .map_err(|_| bad(oids::SIGNING_TIME, "not a DER time in UTC with seconds"))?;
        let micros = i64::try_from(since_epoch.as_micros())
            .map_err(|_| bad(oids::SIGNING_TIME, "not a time between 1970 and 9999"))?;
        let canonical = Self::new(Micros(micros))?;
        if canonical.der == value {
            Ok(canonical)
        } else {
            Err(bad(
                oids::SIGNING_TIME,
                "GeneralizedTime before 2050 (RFC 5652 §11.3)",
            ))
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        self.der.clone()
    }
}

/// `signingCertificateV2` (RFC 5035 §3) with exactly one certificate and no policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningCertificate {
    hash: HashAlgorithm,
    /// Whether the written-out algorithm carries NULL parameters; tools differ.
    null: bool,
    digest: Vec<u8>,
    /// The `IssuerSerial` with its header.
    issuer_serial: Option<Vec<u8>>,
}

impl SigningCertificate {
    /// Names `cert_der` by its SHA-256 hash, issuer and serial number.
    pub(crate) fn new(cert_der: &[u8]) -> Result<Self, ContentRefusal> {
        let cert = SignerCertificate::read(cert_der)?;
        Ok(Self {
            hash: HashAlgorithm::Sha256,
            null: false,
            digest: digest_of(HashAlgorithm::Sha256, cert_der)
                .as_bytes()
                .to_vec(),
            issuer_serial: Some(issuer_serial(&cert)),
        })
    }

    pub(crate) fn names(&self, cert: &SignerCertificate<'_>) -> bool {
        self.digest == digest_of(self.hash, cert.der).as_bytes()
            && self
                .issuer_serial
                .as_ref()
                .is_none_or(|named| *named == issuer_serial(cert))
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, ContentRefusal> {
        const WHAT: &str = "SigningCertificateV2 with one certificate";
        let mut body = Cursor::whole(FIELD, value, Tag::Sequence, WHAT)?;
        let mut certs = body.enter(Tag::Sequence, WHAT)?;
        let mut id = certs.enter(Tag::Sequence, WHAT)?;
        if !certs.is_finished() || !body.is_finished() {
            return Err(bad(
                oids::SIGNING_CERTIFICATE_V2,
                "more than one certificate, or policies",
            ));
        }
        let (hash, null) = if id.peek() == Some(Tag::Sequence) {
            let (oid, null) = tlv::read_algorithm(&mut id, Tag::Sequence)?;
            let hash = oids::hash_of(oid)
                .ok_or(bad(oids::SIGNING_CERTIFICATE_V2, "unknown hash algorithm"))?;
            // X.690 §11.5: a default value is not encoded.
            if hash == HashAlgorithm::Sha256 {
                return Err(ContentRefusal::NotCanonical {
                    field: FIELD,
                    rule: "default hash algorithm written out",
                });
            }
            (hash, null)
        } else {
            (HashAlgorithm::Sha256, false)
        };
        let digest = id.expect(Tag::OctetString, WHAT)?.to_vec();
        if digest.len() != hash.digest_len() {
            return Err(bad(oids::SIGNING_CERTIFICATE_V2, "hash of a wrong length"));
        }
        let issuer_serial = (!id.is_finished())
            .then(|| read_issuer_serial(&mut id))
            .transpose()?;
        id.finish()?;
        Ok(Self {
            hash,
            null,
            digest,
            issuer_serial,
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let algorithm = match self.hash {
            HashAlgorithm::Sha256 => Vec::new(),
            other => tlv::write_algorithm(oids::hash(other), self.null),
        };
        let digest = tlv::write(tag::OCTET_STRING, &[&self.digest]);
        let issuer_serial = self.issuer_serial.as_deref().unwrap_or_default();
        let id = tlv::write(tag::SEQUENCE, &[&algorithm, &digest, issuer_serial]);
        tlv::write(tag::SEQUENCE, &[&tlv::write(tag::SEQUENCE, &[&id])])
    }
}

/// `IssuerSerial` of RFC 5035 §3: one directory name, then the serial number.
fn issuer_serial(cert: &SignerCertificate<'_>) -> Vec<u8> {
    let directory_name = tlv::write(tag::context(4), &[cert.issuer]);
    let names = tlv::write(tag::SEQUENCE, &[&directory_name]);
    tlv::write(tag::SEQUENCE, &[&names, cert.serial])
}

/// The form is checked here; that it is the signer's is checked by comparing the bytes.
fn read_issuer_serial(id: &mut Cursor<'_>) -> Result<Vec<u8>, ContentRefusal> {
    const WHAT: &str = "IssuerSerial with one directory name";
    let raw = id.raw()?;
    let mut body = Cursor::whole(FIELD, raw, Tag::Sequence, WHAT)?;
    let mut names = body.enter(Tag::Sequence, WHAT)?;
    let mut name = names.enter(context(4), WHAT)?;
    names.finish()?;
    let issuer = name.expect(Tag::Sequence, WHAT)?;
    name.finish()?;
    let serial = body.expect(Tag::Integer, WHAT)?;
    body.finish()?;
    // RFC 5280 §4.1.2.2: at most 20 octets; X.690 §8.3.2: no needless leading octet.
    let minimal = match serial {
        [] => false,
        [0x00, next, ..] => next & 0x80 != 0,
        [0xff, next, ..] => next & 0x80 == 0,
        _ => true,
    };
    if !minimal || serial.len() > 21 {
        return Err(bad(
            oids::SIGNING_CERTIFICATE_V2,
            "serial number is not a DER integer of at most 20 bytes",
        ));
    }
    strict_name(issuer)?;
    Ok(raw.to_vec())
}

/// `Name`: a sequence of sets of (type, string). Every byte belongs to some strict value.
fn strict_name(content: &[u8]) -> Result<(), ContentRefusal> {
    const WHAT: &str = "a distinguished name";
    let mut rdns = Cursor::over(FIELD, content)?;
    while !rdns.is_finished() {
        let mut rdn = rdns.enter(Tag::Set, WHAT)?;
        let mut before: &[u8] = &[];
        while !rdn.is_finished() {
            let raw = rdn.raw()?;
            if raw <= before {
                return Err(ContentRefusal::NotCanonical {
                    field: FIELD,
                    rule: "SET OF order",
                });
            }
            before = raw;
            let mut pair = Cursor::whole(FIELD, raw, Tag::Sequence, WHAT)?;
            pair.oid(WHAT)?;
            pair.any()?;
            pair.finish()?;
        }
    }
    Ok(())
}

/// `CMSAlgorithmProtection` (RFC 6211 §2) with a signature algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlgorithmProtection {
    digest: (ObjectIdentifier, bool),
    signature: (ObjectIdentifier, bool),
}

impl AlgorithmProtection {
    pub(crate) const fn new(scheme: SignatureScheme) -> Self {
        let hash = scheme.hash();
        Self {
            digest: (oids::hash(hash), false),
            signature: match scheme {
                SignatureScheme::RsaPkcs1(_) => (oids::rsa_with(hash), true),
                SignatureScheme::Ecdsa(_) => (oids::ecdsa_with(hash), false),
            },
        }
    }

    pub(crate) fn fits(&self, hash: HashAlgorithm, cert: Option<&SignerCertificate<'_>>) -> bool {
        // CMS writes either the combined identifier or plain rsaEncryption (RFC 5652 §5.3, RFC 3370 §3.2).
        let rsa = self.signature == (oids::rsa_with(hash), true)
            || self.signature == (oids::RSA_ENCRYPTION, true);
        let ec = self.signature == (oids::ecdsa_with(hash), false);
        self.digest.0 == oids::hash(hash)
            && match cert.map(|c| c.key) {
                Some(Some(KeyKind::Rsa)) => rsa,
                Some(Some(KeyKind::Ec)) => ec,
                Some(None) => false,
                None => rsa || ec,
            }
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, ContentRefusal> {
        const WHAT: &str = "CMSAlgorithmProtection";
        let mut body = Cursor::whole(FIELD, value, Tag::Sequence, WHAT)?;
        let digest = tlv::read_algorithm(&mut body, Tag::Sequence)?;
        if body.peek() != Some(context(1)) {
            return Err(bad(oids::ALGORITHM_PROTECTION, "no signature algorithm"));
        }
        let signature = tlv::read_algorithm(&mut body, context(1))?;
        body.finish()?;
        Ok(Self { digest, signature })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let digest = tlv::write_algorithm(self.digest.0, self.digest.1);
        let null = tlv::write(tag::NULL, &[]);
        let signature = tlv::write(
            tag::context(1),
            &[
                &tlv::write_oid(self.signature.0),
                if self.signature.1 { &null } else { &[] },
            ],
        );
        tlv::write(tag::SEQUENCE, &[&digest, &signature])
    }
}

fn bad(oid: ObjectIdentifier, reason: &'static str) -> ContentRefusal {
    ContentRefusal::BadAttributeValue { oid, reason }
}

fn is(any: AnyRef<'_>, tag: Tag) -> bool {
    der::Tagged::tag(&any) == tag
}

fn ascii(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|s| s.is_ascii())
        .map(str::to_owned)
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|p| u16::from_be_bytes(*p)))
        .collect::<Result<String, _>>()
        .ok()
}
