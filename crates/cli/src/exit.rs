//! Exit codes: the contract with scripts.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done, or what was checked is good.
    Done,
    /// What was checked is bad.
    Bad,
    /// It cannot be decided.
    Undecided,
    /// Refused by policy; reasons were shown.
    Refused,
    /// Absent, or not yours.
    Absent,
    /// Unavailable: retry.
    Unavailable,
    /// Some of several files are done, others are not.
    Partly,
    /// Stopped by a signal before the end (128 and SIGINT's number, as shells say it).
    Interrupted,
    /// Wrong usage.
    Usage,
    /// A bug, ours or the service's.
    Internal,
}

impl Exit {
    /// All, from best to worst: with several files the worst counts. "Bad" is worse than anything
    /// that a retry, a grant or another file could mend.
    pub const BY_SEVERITY: [Self; 10] = [
        Self::Done,
        Self::Partly,
        Self::Interrupted,
        Self::Unavailable,
        Self::Absent,
        Self::Refused,
        Self::Undecided,
        Self::Bad,
        Self::Usage,
        Self::Internal,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bad => 1,
            Self::Undecided => 2,
            Self::Refused => 3,
            Self::Absent => 4,
            Self::Unavailable => 5,
            Self::Partly => 6,
            Self::Interrupted => 130,
            Self::Usage => 64,
            Self::Internal => 70,
        }
    }

    /// The worse of the two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.severity() > self.severity() {
            other
        } else {
            self
        }
    }

    fn severity(self) -> Option<usize> {
        Self::BY_SEVERITY.iter().position(|e| *e == self)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_codes_are_the_promised_ones() {
        let codes = Exit::BY_SEVERITY.map(Exit::code);
        assert_eq!(codes, [0, 6, 130, 5, 4, 3, 2, 1, 64, 70]);
    }

    #[test]
    fn the_worst_file_counts() {
        let all = |list: &[Exit]| list.iter().fold(Exit::Done, |a, b| a.worst(*b));
        assert_eq!(all(&[]), Exit::Done);
        assert_eq!(
            all(&[Exit::Done, Exit::Unavailable, Exit::Done]),
            Exit::Unavailable
        );
        assert_eq!(all(&[Exit::Refused, Exit::Bad, Exit::Undecided]), Exit::Bad);
    }
}
