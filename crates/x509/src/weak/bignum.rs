//! Just enough arithmetic on large natural numbers for the weak-key checks. Public values only:
//! nothing here needs, or tries, to be constant in time.

/// A natural number, 64-bit limbs, least significant first, no leading zero limb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nat(Vec<u64>);

impl Nat {
    pub(super) fn from_be_bytes(bytes: &[u8]) -> Self {
        let limbs = bytes
            .rchunks(8)
            .map(|c| c.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)))
            .collect();
        Self(limbs).normal()
    }

    fn normal(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_odd(&self) -> bool {
        self.0.first().is_some_and(|l| l & 1 == 1)
    }

    /// Remainder by a number below 2^32 (0 by 0).
    pub(super) fn rem_small(&self, m: u64) -> u64 {
        let m = u128::from(m.max(1));
        let r = self
            .0
            .iter()
            .rev()
            .fold(0u128, |r, l| ((r << 64) | u128::from(*l)) % m);
        u64::try_from(r).unwrap_or(0)
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut out = Vec::with_capacity(self.0.len().max(other.0.len()) + 1);
        let mut carry = false;
        for i in 0..self.0.len().max(other.0.len()) {
            let (a, c1) = limb(self, i).overflowing_add(limb(other, i));
            let (a, c2) = a.overflowing_add(u64::from(carry));
            carry = c1 || c2;
            out.push(a);
        }
        out.push(u64::from(carry));
        Self(out).normal()
    }

    /// `self − other`, or zero if that is negative.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut out = Vec::with_capacity(self.0.len());
        let mut borrow = false;
        for i in 0..self.0.len() {
            let (a, b1) = limb(self, i).overflowing_sub(limb(other, i));
            let (a, b2) = a.overflowing_sub(u64::from(borrow));
            borrow = b1 || b2;
            out.push(a);
        }
        if borrow || other.0.len() > self.0.len() {
            return Self(Vec::new());
        }
        Self(out).normal()
    }

    pub(super) fn plus_one(&self) -> Self {
        self.plus(&Self(vec![1]))
    }

    pub(super) fn double_plus_one(&self) -> Self {
        self.plus(self).plus_one()
    }

    fn at_least(&self, other: &Self) -> bool {
        self.0.len() > other.0.len()
            || (self.0.len() == other.0.len() && self.0.iter().rev().ge(other.0.iter().rev()))
    }

    /// `(⌊√self⌋, self − ⌊√self⌋²)`, two bits at a time as by hand: no division needed.
    pub(super) fn isqrt(&self) -> (Self, Self) {
        let (mut root, mut rest) = (Self(Vec::new()), Self(Vec::new()));
        for l in self.0.iter().rev() {
            for pair in (0..32).rev() {
                rest = rest.shifted_in(2, (l >> (2 * pair)) & 3);
                // Trial value: 4·root + 1 at this scale.
                let trial = root.shifted_in(2, 1);
                let fits = rest.at_least(&trial);
                if fits {
                    rest = rest.minus(&trial);
                }
                root = root.shifted_in(1, u64::from(fits));
            }
        }
        (root, rest)
    }

    /// The root, if this is a perfect square. Cheap for most others: squares are rare modulo small
    /// numbers.
    pub(super) fn isqrt_exact(&self) -> Option<Self> {
        const FILTERS: [u64; 10] = [64, 63, 65, 11, 17, 19, 23, 29, 31, 37];
        for m in FILTERS {
            let r = self.rem_small(m);
            if !(0..m).any(|x| x * x % m == r) {
                return None;
            }
        }
        let (root, rest) = self.isqrt();
        rest.is_zero().then_some(root)
    }

    /// `(self << bits) | low`, for bits below 64.
    fn shifted_in(&self, bits: u32, low: u64) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut carry = low;
        for l in &self.0 {
            out.push((l << bits) | carry);
            carry = l >> (64 - bits);
        }
        out.push(carry);
        Self(out).normal()
    }
}

fn limb(n: &Nat, i: usize) -> u64 {
    n.0.get(i).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nat(n: u128) -> Nat {
        Nat::from_be_bytes(&n.to_be_bytes())
    }

    proptest! {
        #[test]
        fn agrees_with_machine_arithmetic(a: u64, b: u64, m in 1u64..1 << 32) {
            let (wide_a, wide_b) = (u128::from(a), u128::from(b));
            prop_assert_eq!(nat(wide_a).plus(&nat(wide_b)), nat(wide_a + wide_b));
            prop_assert_eq!(nat(wide_a * wide_b).rem_small(m), u64::try_from(wide_a * wide_b % u128::from(m)).unwrap());
            let n = wide_a * wide_b;
            let root = n.isqrt();
            prop_assert_eq!(nat(n).isqrt(), (nat(root), nat(n - root * root)));
            prop_assert_eq!(nat(wide_a * wide_a).isqrt_exact(), Some(nat(wide_a)));
            prop_assert_eq!(nat(wide_a.max(wide_b)).minus(&nat(wide_a.min(wide_b))), nat(wide_a.abs_diff(wide_b)));
        }
    }
}
