//! Looking into somebody else's CMS `SignedData`, and adding an unsigned attribute to its first signer,
//! without touching another byte.
//!
//! `x509` reads what we make and what must verify, and refuses the rest: SHA-1, unsorted attributes,
//! odd certificates. A signature that is in a file already may have any of these, and appending ours to
//! an old SHA-1 signature is the usual reason to append at all. So this walk looks no further than it
//! must, keeps slices, splices the new attribute in and rewrites only the lengths around it.
//! Unsigned attributes are covered by no signature (RFC 5652 §5.4), which is why that is allowed.

use crate::FormatError;
use countersign_content::oids;
use countersign_x509::ObjectIdentifier;
use countersign_x509::asn1::{self, Asn1Error, Attribute, Cursor, SEQUENCE, SET, context, tlv};

/// Bounds for lists in foreign structures.
const MAX_LIST: usize = 64;

/// A `ContentInfo` with `SignedData` (RFC 5652 §5.1), as slices of the input.
pub(crate) struct SignedDataView<'a> {
    /// Everything in `SignedData` before the signer infos.
    head: Vec<&'a [u8]>,
    econtent: Option<&'a [u8]>,
    signers: Vec<&'a [u8]>,
}

/// One `SignerInfo` (RFC 5652 §5.3).
struct Signer<'a> {
    /// Everything before the unsigned attributes.
    head: Vec<&'a [u8]>,
    /// The content of `[1] unsignedAttrs`.
    unsigned: Option<&'a [u8]>,
}

impl<'a> SignedDataView<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, FormatError> {
        let (first, rest) = Self::prefix(der)?;
        if !rest.is_empty() {
            return Err(not_cms("ContentInfo", asn1::Problem::TrailingBytes));
        }
        Ok(walk(first)?)
    }

    /// Splits off the first DER value, which a table entry pads.
    pub(crate) fn prefix(bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), FormatError> {
        let mut c = Cursor::new(bytes);
        let first = c.expect(SEQUENCE, "ContentInfo")?.bytes;
        let rest = bytes.get(first.len()..).unwrap_or_default();
        Ok((first, rest))
    }

    /// The signed content's single value, if the content is inside.
    pub(crate) const fn econtent(&self) -> Option<&'a [u8]> {
        self.econtent
    }

    /// The values of an unsigned attribute of the first signer.
    pub(crate) fn unsigned_values(
        &self,
        oid: ObjectIdentifier,
    ) -> Result<Vec<&'a [u8]>, FormatError> {
        let mut out = Vec::new();
        let attributes = self.first_signer()?.unsigned.unwrap_or_default();
        for attribute in Cursor::new(attributes).elements(MAX_LIST, "unsignedAttrs")? {
            let mut c = Cursor::new(attribute.value);
            if c.oid("attrType")? == oid {
                let values = c.enter(SET, "attrValues")?;
                out.extend(
                    values
                        .elements(MAX_LIST, "attrValues")?
                        .iter()
                        .map(|v| v.bytes),
                );
            }
        }
        Ok(out)
    }

    fn first_signer(&self) -> Result<Signer<'a>, FormatError> {
        let first = self
            .signers
            .first()
            .ok_or(not_cms("signerInfos", asn1::Problem::Truncated))?;
        Ok(walk_signer(first)?)
    }
}

/// The CMS with `value` as a further value of the unsigned attribute `oid` of its first signer.
pub(crate) fn add_unsigned_value(
    cms: &[u8],
    oid: ObjectIdentifier,
    value: &[u8],
) -> Result<Vec<u8>, FormatError> {
    let view = SignedDataView::parse(cms)?;
    let signer = view.first_signer()?;

    let mut attributes = Vec::new();
    let mut values = vec![value.to_vec()];
    let existing = signer.unsigned.unwrap_or_default();
    for attribute in Cursor::new(existing).elements(MAX_LIST, "unsignedAttrs")? {
        let mut c = Cursor::new(attribute.value);
        if c.oid("attrType")? == oid {
            let old = c.enter(SET, "attrValues")?;
            values.extend(
                old.elements(MAX_LIST, "attrValues")?
                    .iter()
                    .map(|v| v.bytes.to_vec()),
            );
        } else {
            attributes.push(attribute.bytes.to_vec());
        }
    }
    // One attribute with several values, as Windows and osslsigncode expect nested signatures.
    attributes.push(Attribute { oid, values }.to_der());
    attributes.sort();

    let unsigned = tlv(context(1), &refs(&attributes));
    let mut parts = signer.head;
    parts.push(&unsigned);
    let first = tlv(SEQUENCE, &parts);

    let mut signers = vec![first.as_slice()];
    signers.extend(view.signers.iter().skip(1));
    let signer_infos = tlv(SET, &signers);
    let mut parts = view.head;
    parts.push(&signer_infos);
    let signed_data = tlv(SEQUENCE, &parts);
    let content = tlv(context(0), &[&signed_data]);
    Ok(tlv(SEQUENCE, &[&asn1::oid(&oids::SIGNED_DATA), &content]))
}

fn walk(content_info: &[u8]) -> Result<SignedDataView<'_>, Asn1Error> {
    let mut info = Cursor::new(content_info).enter(SEQUENCE, "ContentInfo")?;
    if info.oid("contentType")? != oids::SIGNED_DATA {
        return Err(Asn1Error::new("contentType", asn1::Problem::Value));
    }
    let mut explicit = info.enter(context(0), "content")?;
    info.finish("ContentInfo")?;
    let mut signed = explicit.enter(SEQUENCE, "SignedData")?;
    explicit.finish("content")?;

    let version = signed.expect(asn1::INTEGER, "version")?.bytes;
    let algorithms = signed.expect(SET, "digestAlgorithms")?.bytes;
    let encap = signed.expect(SEQUENCE, "encapContentInfo")?;
    let mut head = vec![version, algorithms, encap.bytes];
    for tag in [context(0), context(1)] {
        if let Some(list) = signed.optional(tag, "certificates or crls")? {
            head.push(list.bytes);
        }
    }
    let signers = signed.enter(SET, "signerInfos")?;
    signed.finish("SignedData")?;
    let signers = signers.elements(MAX_LIST, "signerInfos")?;

    let mut inside = Cursor::new(encap.value);
    inside.oid("eContentType")?;
    let econtent = match inside.optional(context(0), "eContent")? {
        None => None,
        Some(explicit) => {
            let mut c = Cursor::new(explicit.value);
            let value = c.any("eContent")?;
            c.finish("eContent")?;
            Some(value.bytes)
        }
    };
    inside.finish("encapContentInfo")?;
    Ok(SignedDataView {
        head,
        econtent,
        signers: signers.iter().map(|s| s.bytes).collect(),
    })
}

fn walk_signer(bytes: &[u8]) -> Result<Signer<'_>, Asn1Error> {
    let mut c = Cursor::new(bytes).enter(SEQUENCE, "SignerInfo")?;
    let mut head = vec![
        c.expect(asn1::INTEGER, "version")?.bytes,
        c.any("sid")?.bytes,
        c.expect(SEQUENCE, "digestAlgorithm")?.bytes,
    ];
    if let Some(signed) = c.optional(context(0), "signedAttrs")? {
        head.push(signed.bytes);
    }
    head.push(c.expect(SEQUENCE, "signatureAlgorithm")?.bytes);
    head.push(c.expect(asn1::OCTET_STRING, "signature")?.bytes);
    let unsigned = c.optional(context(1), "unsignedAttrs")?;
    c.finish("SignerInfo")?;
    Ok(Signer {
        head,
        unsigned: unsigned.map(|u| u.value),
    })
}

fn refs(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

fn not_cms(field: &'static str, problem: asn1::Problem) -> FormatError {
    Asn1Error::new(field, problem).into()
}
