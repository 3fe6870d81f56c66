//! Small executables, valid enough for every tool here, and easy to break in one place.

/// What to build.
#[derive(Debug, Clone)]
pub struct TinyPe {
    /// PE32+ instead of PE32.
    pub plus: bool,
    /// Each section's bytes; rounded up to 512.
    pub sections: Vec<Vec<u8>>,
    /// Bytes after the last section, as installers have them.
    pub overlay: Vec<u8>,
}

/// Offsets of what tests break.
pub const LFANEW: usize = 0x3C;
pub const PE: usize = 0x80;
pub const OPTIONAL: usize = PE + 24;
pub const CHECKSUM: usize = OPTIONAL + 64;
pub const SIZE_OF_HEADERS: usize = OPTIONAL + 60;

const ALIGN: usize = 512;

impl TinyPe {
    pub fn pe32() -> Self {
        Self {
            plus: false,
            sections: vec![b"code".repeat(100), b"data".repeat(30)],
            overlay: Vec::new(),
        }
    }

    pub fn pe32_plus() -> Self {
        Self {
            plus: true,
            ..Self::pe32()
        }
    }

    /// Where the count of data directories stands.
    pub const fn directory_count(&self) -> usize {
        OPTIONAL + if self.plus { 108 } else { 92 }
    }

    /// Where the certificate table entry stands.
    pub const fn certificate_entry(&self) -> usize {
        self.directory_count() + 4 + 4 * 8
    }

    /// Where section `n`'s header stands.
    pub const fn section_header(&self, n: usize) -> usize {
        OPTIONAL + self.optional_size() + n * 40
    }

    const fn optional_size(&self) -> usize {
        (if self.plus { 112 } else { 96 }) + 16 * 8
    }

    pub fn build(&self) -> Vec<u8> {
        let headers = self
            .section_header(self.sections.len())
            .next_multiple_of(ALIGN);
        let mut out = vec![0; headers];
        put(&mut out, 0, b"MZ");
        put32(&mut out, LFANEW, PE);
        put(&mut out, PE, b"PE\0\0");
        let machine: u16 = if self.plus { 0x8664 } else { 0x014C };
        put(&mut out, PE + 4, &machine.to_le_bytes());
        let count = u16::try_from(self.sections.len()).unwrap();
        put(&mut out, PE + 6, &count.to_le_bytes());
        let size = u16::try_from(self.optional_size()).unwrap();
        put(&mut out, PE + 20, &size.to_le_bytes());
        put(&mut out, PE + 22, &[0x22, 0x00]);
        let magic: u16 = if self.plus { 0x20B } else { 0x10B };
        put(&mut out, OPTIONAL, &magic.to_le_bytes());
        put32(&mut out, OPTIONAL + 32, 0x1000);
        put32(&mut out, OPTIONAL + 36, ALIGN);
        put32(&mut out, OPTIONAL + 56, 0x1000 * (self.sections.len() + 1));
        put32(&mut out, SIZE_OF_HEADERS, headers);
        put(&mut out, OPTIONAL + 68, &[3, 0]);
        put32(&mut out, self.directory_count(), 16);
        for (n, data) in self.sections.iter().enumerate() {
            let header = self.section_header(n);
            let raw = data.len().next_multiple_of(ALIGN);
            put(&mut out, header, format!(".s{n}").as_bytes());
            put32(&mut out, header + 8, data.len());
            put32(&mut out, header + 12, 0x1000 * (n + 1));
            put32(&mut out, header + 16, raw);
            let at = out.len();
            put32(&mut out, header + 20, at);
            out.extend_from_slice(data);
            out.resize(at + raw, 0);
        }
        out.extend_from_slice(&self.overlay);
        out
    }
}

pub fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

pub fn put32(out: &mut [u8], at: usize, value: usize) {
    put(out, at, &u32::try_from(value).unwrap().to_le_bytes());
}
