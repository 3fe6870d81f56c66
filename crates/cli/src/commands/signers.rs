//! `countersign signers`: stable names that keys sign under.

use crate::args::SignerArg;
use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::Subcommand;
use countersign_core::KeyAlgorithm;

/// Subcommands of `signers`.
#[derive(Debug, Subcommand)]
pub enum Signers {
    /// Make a signer; it has no key yet.
    #[command(
        after_help = "Example:\n  countersign signers create acme/release --algorithm ec-p256"
    )]
    Create {
        /// Its name, tenant/signer.
        signer: SignerArg,
        /// Algorithm of its keys: ec-p256, ec-p384, rsa-3072 or rsa-4096.
        #[arg(long, default_value = "ec-p256")]
        algorithm: KeyAlgorithm,
    },
    /// List the tenant's signers.
    #[command(after_help = "Example:\n  countersign signers list --tenant acme")]
    List,
    /// Show one.
    #[command(after_help = "Example:\n  countersign signers show acme/release")]
    Show {
        /// Its name, tenant/signer.
        signer: SignerArg,
    },
}

impl Signers {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Create { signer, algorithm } => {
                let (tenant, signer) = context.signer(&signer)?;
                let client = context.session(&tenant)?;
                let answer = client.create_signer(&tenant, &signer, algorithm.as_str())?;
                let text = format!(
                    "made signer {tenant}/{signer} ({algorithm})\n\
                     Next: countersign keys create {tenant}/{signer}"
                );
                Ok(Report::new(answer, text))
            }
            Self::List => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.signers(&tenant)?;
                Ok(Report::rows(answer, &["name", "algorithm", "created"]))
            }
            Self::Show { signer } => {
                let (tenant, signer) = context.signer(&signer)?;
                let answer = context.session(&tenant)?.signer(&tenant, &signer)?;
                Ok(Report::facts(answer))
            }
        }
    }
}
