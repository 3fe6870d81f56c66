//! The access control list of a key: who may do what with it, and by which ways it can leave.

use super::acl::DERIVE_PUBLIC_FROM_PRIVATE;
use super::acl::{Action, Group, MakeBlob, blob, permission};
use super::ncore::KeyHash;
use super::parse::Bundle;
use super::rules::guide;
use crate::result::{Check, Exportable, Known, Rule};

const ACL: Rule = Rule::confirmed(
    "nshield-acl",
    "nobody but the Security Officer may export the key, widen its list, or write it other than under the world's module key",
    guide!("ACLV1 to ACLV4, WB1 to WB6, RB1 to RB5"),
);

/// Permissions that no group may give unless the Security Officer certifies each use. Not among
/// them is UseAsBlobKey, though the guide names it: the maker's own example has it on an RSA key,
/// `nfkmattest` reports it as the permission "unwrap", and it opens other keys' blobs: it does
/// not let this key out. It takes away sign-only.
const FORBIDDEN: [(u32, &str); 5] = [
    (permission::EXPORT_AS_PLAIN, "ExportAsPlain"),
    (permission::SET_APP_DATA, "SetAppData"),
    (permission::EXPAND_ACL, "ExpandACL"),
    (permission::USE_AS_KM, "UseAsKM"),
    (permission::USE_AS_LOADER_KEY, "UseAsLoaderKey"),
];

/// Operations other than signing.
const NOT_SIGNING: u32 = permission::ENCRYPT
    | permission::DECRYPT
    | permission::USE_AS_BLOB_KEY
    | permission::USE_AS_KM
    | permission::USE_AS_LOADER_KEY;

/// What an access control list comes to.
pub(super) struct AccessList {
    /// Operations anybody may do.
    pub(super) operations: u32,
    /// The worst way the key can leave.
    pub(super) exportable: Exportable,
    /// By which ways it is recoverable.
    pub(super) recoverable: Vec<String>,
    derives: bool,
    refusals: Vec<String>,
    permitted: Vec<String>,
}

impl AccessList {
    pub(super) fn read(groups: &[Group], bundle: &Bundle) -> Self {
        let mut list = Self {
            operations: 0,
            exportable: Exportable::Never,
            recoverable: Vec::new(),
            derives: false,
            refusals: Vec::new(),
            permitted: Vec::new(),
        };
        let hknso = bundle.state.message.hknso;
        for group in groups {
            if group.certifiers.is_empty() {
                for action in &group.actions {
                    list.action(action, bundle);
                }
            } else if group.certifiers.iter().all(|c| *c == hknso) {
                // ACLV1: what the Security Officer certifies ("trump ops") is recovery.
                list.recovers("a group that the Security Officer's key certifies".to_owned());
            } else {
                list.refuse(
                    Exportable::Unknown,
                    "a group is certified by a key that is not the Security Officer's".to_owned(),
                );
            }
        }
        list
    }

    fn action(&mut self, action: &Action, bundle: &Bundle) {
        match action {
            Action::Operations(given) => self.give(*given),
            Action::MakeBlob(make) => match working_blob(make, &bundle.hkm) {
                Ok(protection) => self.permitted.push(format!("working blob, {protection}")),
                Err(why) => self.refuse(Exportable::Wrapped, why.to_owned()),
            },
            Action::MakeArchiveBlob { to } => {
                let kre = bundle.recovery.as_ref().map(|r| r.hkre);
                if to.is_some() && *to == kre {
                    // RB1 to RB5.
                    self.recovers("archive blob to the world's recovery key KRE".to_owned());
                } else {
                    let to = to.map_or("any key".to_owned(), hex::encode);
                    self.refuse(
                        Exportable::Wrapped,
                        format!(
                            "archive blob to {to}, which is not the world's certified recovery key"
                        ),
                    );
                }
            }
            Action::Derive { mechanism } if *mechanism == DERIVE_PUBLIC_FROM_PRIVATE => {
                self.permitted.push("deriving the public key".to_owned());
            }
            Action::Derive { mechanism } => {
                self.derives = true;
                self.refuse(
                    Exportable::Unknown,
                    format!("deriving by mechanism {mechanism}"),
                );
            }
        }
    }

    /// ACLV3.
    fn give(&mut self, given: u32) {
        self.operations |= given;
        for (bit, name) in FORBIDDEN {
            if given & bit != 0 {
                let way = if bit == permission::EXPORT_AS_PLAIN {
                    Exportable::Plain
                } else {
                    Exportable::Unknown
                };
                self.refuse(way, format!("the permission {name}"));
            }
        }
        let unknown = given & !permission::KNOWN;
        if unknown != 0 {
            self.refuse(
                Exportable::Unknown,
                format!("the unknown permissions {unknown:#x}"),
            );
        }
    }

    fn refuse(&mut self, way: Exportable, why: String) {
        self.refusals.push(why);
        // Worst first: in the clear, under some key, not known.
        self.exportable = match (self.exportable, way) {
            (Exportable::Plain, _) | (_, Exportable::Plain) => Exportable::Plain,
            (Exportable::Wrapped, _) | (_, Exportable::Wrapped) => Exportable::Wrapped,
            _ => Exportable::Unknown,
        };
    }

    fn recovers(&mut self, way: String) {
        if self.exportable == Exportable::Never {
            self.exportable = Exportable::Recoverable;
        }
        if !self.recoverable.contains(&way) {
            self.recoverable.push(way);
        }
    }

    pub(super) fn check(&self) -> Check {
        let mut seen = vec![format!("operations {}", self.describe_operations())];
        seen.extend(self.permitted.iter().cloned());
        seen.extend(self.recoverable.iter().map(|w| format!("recoverable: {w}")));
        seen.extend(self.refusals.iter().map(|w| format!("not allowed: {w}")));
        ACL.check(self.refusals.is_empty(), seen.join("; "))
    }

    /// Signing permitted, and nothing else that uses the private key.
    pub(super) fn sign_only(&self) -> Known {
        let signs = self.operations & permission::SIGN != 0;
        let other = self.operations & (NOT_SIGNING | !permission::KNOWN) != 0;
        if signs && !other && !self.derives {
            Known::Yes
        } else {
            Known::No
        }
    }

    /// The names of the operations that use the key, and all bits.
    pub(super) fn describe_operations(&self) -> String {
        let names = [
            (permission::SIGN, "sign"),
            (permission::DECRYPT, "decrypt"),
            (permission::ENCRYPT, "encrypt"),
            (permission::USE_AS_BLOB_KEY, "unwrap"),
        ];
        let held: Vec<&str> = names
            .iter()
            .filter(|(bit, _)| self.operations & bit != 0)
            .map(|(_, name)| *name)
            .collect();
        format!("{} ({:#x})", held.join(", "), self.operations)
    }
}

/// WB1 to WB6: under the world's module key, alone or with a token.
fn working_blob(make: &MakeBlob, hkm: &KeyHash) -> Result<&'static str, &'static str> {
    let alone = make.flags & blob::ALLOW_KM_ONLY != 0;
    let token = make.token.is_some() || make.token_flags.is_some();
    if make.module_key.as_ref() != Some(hkm) {
        Err("working blob under a key that is not the world's module key")
    } else if make.flags & blob::ALLOW_NULL_KM_TOKEN != 0 {
        Err("working blob under a token without a module key")
    } else if !alone && !token {
        Err("working blob under neither module key nor token")
    } else if alone {
        Ok("protected by the module")
    } else {
        Ok("protected by a token")
    }
}
