//! Text that people read.

/// Whether a character can make a line look like another one: control characters, the marks that
/// turn the direction of writing round (Unicode UAX #9 §2.1, §2.2, §2.4: embeddings, overrides,
/// isolates), and the separators of lines and paragraphs. In a name or a reason none of them has a use.
#[must_use]
pub fn disguises(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::disguises;

    #[test]
    fn scripts_and_their_joiners_are_text() {
        for c in "aé\u{5d0}\u{627}\u{200d}\u{200c}\u{1f511}漢".chars() {
            assert!(!disguises(c), "{c:?}");
        }
        for c in "\0\n\u{1b}\u{7f}\u{85}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            assert!(disguises(c), "{c:?}");
        }
    }
}
