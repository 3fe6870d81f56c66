//! Changed copies of the corpus, as a fuzzer makes them but blindly: the same at each run.

/// Numbers that look random (xorshift64*, Vigna 2016), always the same.
pub struct Chance(u64);

impl Chance {
    pub fn of(name: &str) -> Self {
        // FNV-1a over the name, so that each target has its own sequence.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`, which is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap();
        usize::try_from((self.next() >> 16) % n).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // What lengths, counts and signs turn on, more often than the rest.
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0x84, 0xfe, 0xff];
        match self.below(2) {
            0 => EDGES[self.below(EDGES.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }

    /// A copy with one to four changes; `other` lends bytes.
    pub fn change(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for _ in 0..=self.below(4) {
            self.once(&mut out, other);
        }
        out
    }

    fn once(&mut self, out: &mut Vec<u8>, other: &[u8]) {
        if out.is_empty() {
            out.push(self.byte());
            return;
        }
        let at = self.below(out.len());
        let run = 1 + self.below(16.min(out.len() - at));
        match self.below(8) {
            0 => out[at] ^= 1 << self.below(8),
            1 => out[at] = self.byte(),
            2 => out.truncate(at),
            3 => drop(out.drain(at..at + run)),
            4 => out.insert(at, self.byte()),
            5 => {
                let twice = out[at..at + run].to_vec();
                out.splice(at..at, twice);
            }
            6 => out[at..at + run].fill(self.byte()),
            _ if other.is_empty() => {}
            _ => {
                let from = self.below(other.len());
                let end = (from + 1 + self.below(64)).min(other.len());
                out.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
}
