//! The crate's one error, for callers that do not care which noun failed.

use crate::{asn1, cert, chain, cms, crl, csr, key, name, pem, tsp, verify};

/// Anything this crate can refuse. Each variant wraps the exact error of its module. Nothing here
/// depends on the outside world, so a retry with the same input cannot help, except where
/// [`chain::ChainError`] or [`crl::CrlError`] say that something is not valid *yet*.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes that are not the DER they should be.
    #[error(transparent)]
    Asn1(#[from] asn1::Asn1Error),
    /// Text that is not the PEM it should be.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// A public key that is not acceptable.
    #[error(transparent)]
    Key(#[from] key::KeyError),
    /// A signature by a subscriber's key that does not verify.
    #[error(transparent)]
    Signature(#[from] key::SignatureInvalid),
    /// A signature by any other key that does not verify.
    #[error(transparent)]
    Verify(#[from] verify::VerifyError),
    /// A subject that may not stand in a request.
    #[error(transparent)]
    Name(#[from] name::NameError),
    /// A certificate request.
    #[error(transparent)]
    Csr(#[from] csr::CsrError),
    /// A certificate.
    #[error(transparent)]
    Cert(#[from] cert::CertError),
    /// A revocation list.
    #[error(transparent)]
    Crl(#[from] crl::CrlError),
    /// A certification path.
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    /// A CMS message.
    #[error(transparent)]
    Cms(#[from] cms::CmsError),
    /// A timestamp.
    #[error(transparent)]
    Tsp(#[from] tsp::TspError),
}
