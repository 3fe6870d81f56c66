//! The details of a leaf: what opens its commitments. One JSON line for each leaf that has any; it
//! lives beside the log, the tenant downloads it, and erasing it breaks no proof.

use crate::commitment::{
    LABEL_ARTIFACT, LABEL_CALLER, LABEL_DETAIL, LABEL_SUBJECT, LABEL_TBS, Opening,
};
use crate::leaf::Leaf;
use serde::{Deserialize, Serialize};

/// The longest line read.
pub const MAX_LINE: usize = 512 * 1024;

/// Openings of the commitments in one leaf. Members are named as their labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Index of the leaf in its log.
    pub index: u64,
    /// The digest that was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tbs: Option<Opening>,
    /// The file's own digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Opening>,
    /// Who asked, or who caused the leaf (`by`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Opening>,
    /// Whose membership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Opening>,
    /// Who and what was refused, or the names of files that were accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Opening>,
}

impl Details {
    /// For the leaf at `index`, without openings yet.
    #[must_use]
    pub fn of(index: u64) -> Self {
        Self {
            index,
            ..Self::default()
        }
    }

    /// The openings there are, with their labels.
    pub fn openings(&self) -> impl Iterator<Item = (&'static str, &Opening)> {
        [
            (LABEL_TBS, &self.tbs),
            (LABEL_ARTIFACT, &self.artifact),
            (LABEL_CALLER, &self.caller),
            (LABEL_SUBJECT, &self.subject),
            (LABEL_DETAIL, &self.detail),
        ]
        .into_iter()
        .filter_map(|(label, opening)| opening.as_ref().map(|o| (label, o)))
    }

    /// Checks that each opening opens the leaf's commitment of that label. Says nothing of
    /// commitments without opening: details may have been erased.
    ///
    /// # Errors
    /// [`DetailsError`] names the label.
    pub fn check(&self, leaf: &Leaf) -> Result<(), DetailsError> {
        for (label, opening) in self.openings() {
            let commitment = leaf
                .commitment(label)
                .ok_or(DetailsError::NotInLeaf { label })?;
            if !commitment.opens(label, opening) {
                return Err(DetailsError::DoesNotOpen { label });
            }
        }
        Ok(())
    }

    /// One JSON line, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Serialising numbers and byte strings cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads one JSON line.
    ///
    /// # Errors
    /// [`DetailsError::Malformed`].
    pub fn parse_line(line: &str) -> Result<Self, DetailsError> {
        if line.len() > MAX_LINE {
            return Err(DetailsError::Malformed {
                why: "line too long".to_owned(),
            });
        }
        serde_json::from_str(line).map_err(|e| DetailsError::Malformed {
            // Names members and positions, never their values.
            why: format!("{:?} error at column {}", e.classify(), e.column()),
        })
    }
}

/// Why details were refused. Retrying with the same input cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// Not a line of details.
    #[error("not a line of details: {why}")]
    Malformed {
        /// Where and how, without any content.
        why: String,
    },
    /// The leaf has no commitment of this label: these are another leaf's details.
    #[error("the leaf has no commitment \"{label}\"")]
    NotInLeaf {
        /// Which opening.
        label: &'static str,
    },
    /// The opening is not what the leaf commits to.
    #[error("the opening \"{label}\" is not what the leaf commits to")]
    DoesNotOpen {
        /// Which opening.
        label: &'static str,
    },
}
