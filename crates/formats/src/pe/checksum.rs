//! The PE checksum: drivers and some boot-time DLLs must have the right one (`MapFileAndCheckSum`).

/// The checksum of `file`, whose field at `field` counts as zero.
pub(super) fn of(file: &[u8], field: usize) -> u32 {
    let skip = field..field.saturating_add(4);
    let mut sum: u64 = 0;
    for (i, pair) in file.chunks(2).enumerate() {
        let at = i.saturating_mul(2);
        let byte = |k: usize| {
            let here = at.saturating_add(k);
            if skip.contains(&here) {
                0
            } else {
                pair.get(k).copied().unwrap_or(0)
            }
        };
        // At most 2^31 words of 16 bits: no overflow in 64.
        sum = sum.wrapping_add(u64::from(u16::from_le_bytes([byte(0), byte(1)])));
    }
    // Folding once at the end gives the same as folding after each word.
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF).wrapping_add(sum >> 16);
    }
    let length = u32::try_from(file.len()).unwrap_or(u32::MAX);
    u32::try_from(sum).unwrap_or(0).wrapping_add(length)
}
