//! Every profile is read, stands in the list, and says whether anybody has tried it.

use std::path::Path;

#[test]
fn every_profile_has_a_page_that_says_whether_it_was_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hsm-config");
    let list = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let mut seen = 0;
    for entry in std::fs::read_dir(&root).expect("hsm-config") {
        let dir = entry.expect("entry").path();
        if !dir.is_dir() {
            continue;
        }
        seen += 1;
        let name = dir.file_name().and_then(|n| n.to_str()).expect("a name");
        let read = |file: &str| {
            std::fs::read_to_string(dir.join(file)).unwrap_or_else(|e| panic!("{name}/{file}: {e}"))
        };
        let (profile, page) = (read("profile.toml"), read("README.md"));
        // Parsed and checked in crates/hsm-protocol, where each is part of the program.
        assert!(profile.contains(&format!("name = \"{name}\"")), "{name}");
        let tested = profile.lines().any(|l| l.starts_with("tested = "));
        let says = if tested {
            "**Tested**"
        } else {
            "**Untested.**"
        };
        let top: Vec<_> = page.lines().take(4).collect();
        assert!(top.join("\n").contains(says), "{name}: {says} at its top");
        let row = list
            .lines()
            .find(|l| l.starts_with(&format!("| [`{name}/`]")))
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        assert_eq!(row.contains("| untested |"), !tested, "{row}");
        let shipped = include_str!("../../../crates/hsm-protocol/src/profile.rs");
        assert!(
            shipped.contains(&format!("\"{name}\"")),
            "{name} is not shipped"
        );
    }
    assert!(seen >= 8, "{seen} profiles");
}
