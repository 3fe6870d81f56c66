//! Notes, checkpoints and tiles: the published vectors and every refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_signing_log::checkpoint::CheckpointError;
use countersign_signing_log::merkle::empty_root;
use countersign_signing_log::note::{MAX_SIGNATURES, Note, NoteError, sign_note};
use countersign_signing_log::tile::{TileError, TileKind};
use countersign_signing_log::{
    Checkpoint, EntryBundle, SigningKey, Tile, TilePath, VerifierKey, tiles_for_size,
};
use proptest::prelude::*;

const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

#[test]
fn the_signed_note_vector_verifies() {
    let key = VerifierKey::parse(VKEY).unwrap();
    assert_eq!((key.name(), key.key_id()), ("example.com/foo", 0x530d_903a));
    assert_eq!(key.to_string(), VKEY);
    let note = Note::parse(NOTE).unwrap();
    let verified = note.verify(std::slice::from_ref(&key)).unwrap();
    assert_eq!(verified.text, "This is an example message.\n");
    assert_eq!(verified.keys, [key]);
}

#[test]
fn a_note_is_accepted_by_its_known_keys_alone() {
    let known = VerifierKey::parse(VKEY).unwrap();
    let other = SigningKey::from_seed(&[1; 32], "other").unwrap();
    let text = "This is an example message.\n";
    // An unknown key's line changes nothing, before or after.
    let other_line = sign_note(text, &[&other]).unwrap();
    let other_line = other_line
        .strip_prefix("This is an example message.\n\n")
        .unwrap();
    let both = format!("{NOTE}{other_line}");
    Note::parse(&both)
        .unwrap()
        .verify(std::slice::from_ref(&known))
        .unwrap();
    // Alone it is nobody's.
    let note = Note::parse(NOTE).unwrap();
    assert_eq!(
        note.verify(&[other.verifier().clone()]),
        Err(NoteError::NoKnownKey)
    );
    assert_eq!(note.verify(&[]), Err(NoteError::NoKnownKey));
    // A known key's bad signature refuses the note, even beside a good one.
    let bad = both.replace("example message", "exemple message");
    assert_eq!(
        Note::parse(&bad)
            .unwrap()
            .verify(&[known, other.verifier().clone()]),
        Err(NoteError::BadSignature {
            name: "example.com/foo".into()
        })
    );
}

#[test]
fn notes_out_of_bounds_are_refused() {
    let key = SigningKey::from_seed(&[1; 32], "k").unwrap();
    for bad in ["", "no newline", "tab\t\n", "bell\u{7}\n", "cr\r\n"] {
        assert_eq!(sign_note(bad, &[&key]), Err(NoteError::BadText), "{bad:?}");
    }
    let good = sign_note("text\n", &[&key]).unwrap();
    let line = good.strip_prefix("text\n\n").unwrap();
    let many = format!("text\n\n{}", line.repeat(MAX_SIGNATURES));
    assert!(
        Note::parse(&many)
            .unwrap()
            .verify(&[key.verifier().clone()])
            .is_ok()
    );
    assert_eq!(
        Note::parse(&format!("{many}{line}")),
        Err(NoteError::TooManySignatures)
    );
    assert_eq!(
        Note::parse(&format!("{}\n{good}", "a".repeat(65_536))),
        Err(NoteError::TooLong)
    );
    assert_eq!(Note::parse("text\n"), Err(NoteError::NoSignatures));
    assert_eq!(
        Note::parse("text\n\n"),
        Err(NoteError::BadSignatureLine { line: 0 })
    );
    assert_eq!(
        Note::parse(good.trim_end_matches('\n')),
        Err(NoteError::BadSignatureLine { line: 0 })
    );
    assert_eq!(
        Note::parse(&good.replace('\u{2014}', "-")),
        Err(NoteError::BadSignatureLine { line: 1 })
    );
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb"] {
        assert_eq!(
            VerifierKey::new(name, [0; 32]),
            Err(NoteError::BadKeyName),
            "{name:?}"
        );
    }
    for vkey in [
        "",
        "name",
        "name+530d903a",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+Aeky",
    ] {
        assert!(VerifierKey::parse(vkey).is_err(), "{vkey}");
    }
}

#[test]
fn a_checkpoint_opens_for_its_log_and_key_alone() {
    let key = SigningKey::from_seed(&[3; 32], "log.example/one").unwrap();
    let cosigner = SigningKey::from_seed(&[4; 32], "witness").unwrap();
    let c = Checkpoint {
        origin: "log.example/one".into(),
        size: 42,
        root: [9; 32],
    };
    let keys = [key.verifier().clone(), cosigner.verifier().clone()];
    let note = c.sign(&key).unwrap();
    assert_eq!(
        Checkpoint::open(&note, "log.example/one", &keys),
        Ok(c.clone())
    );
    assert!(matches!(
        Checkpoint::open(&note, "log.example/two", &keys),
        Err(CheckpointError::WrongOrigin { .. })
    ));
    // A witness alone does not make a checkpoint.
    let cosigned = sign_note(&c.to_text(), &[&cosigner]).unwrap();
    assert!(matches!(
        Checkpoint::open(&cosigned, "log.example/one", &keys),
        Err(CheckpointError::NotSignedByLog { .. })
    ));
    // A key with another log's name does not sign this log's.
    assert!(c.sign(&cosigner).is_err());
    let stranger = SigningKey::from_seed(&[5; 32], "log.example/one").unwrap();
    assert_eq!(
        Checkpoint::open(&c.sign(&stranger).unwrap(), "log.example/one", &keys),
        Err(CheckpointError::Note(NoteError::NoKnownKey))
    );
    // Both keys of a rotation sign.
    let new = SigningKey::from_seed(&[6; 32], "log.example/one").unwrap();
    let both = c.sign_with(&[&key, &new]).unwrap();
    for k in [&key, &new] {
        assert!(Checkpoint::open(&both, &c.origin, &[k.verifier().clone()]).is_ok());
    }
}

#[test]
fn checkpoint_text_has_one_spelling() {
    let c = Checkpoint {
        origin: "o".into(),
        size: 7,
        root: [1; 32],
    };
    let good = c.to_text();
    assert_eq!(Checkpoint::parse(&good), Ok(c));
    let root = good.lines().last().unwrap().to_owned();
    for (bad, line) in [
        (good.trim_end().to_owned(), "end"),
        (format!("\n7\n{root}\n"), "origin"),
        (format!("o\n07\n{root}\n"), "size"),
        (format!("o\n+7\n{root}\n"), "size"),
        (format!("o\n\n{root}\n"), "size"),
        (format!("o\n9223372036854775808\n{root}\n"), "size"),
        ("o\n7\nAAAA\n".to_owned(), "root"),
        (format!("o\n0\n{root}\n"), "root"),
        (format!("o\n7\n{root}\nextra\n"), "extension"),
        ("o\n7\n".to_owned(), "root"),
    ] {
        assert_eq!(
            Checkpoint::parse(&bad),
            Err(CheckpointError::Malformed { line }),
            "{bad:?}"
        );
    }
    let empty = Checkpoint {
        origin: "o".into(),
        size: 0,
        root: empty_root(),
    };
    assert_eq!(Checkpoint::parse(&empty.to_text()), Ok(empty));
}

#[test]
fn tile_paths_are_those_of_the_standard() {
    let path = TilePath::entries(1_234_067, 256);
    assert_eq!(path.to_string(), "tile/entries/x001/x234/067");
    assert_eq!(TilePath::parse("tile/entries/x001/x234/067"), Ok(path));
    for (path, text) in [
        (TilePath::hashes(0, 0, 256), "tile/0/000"),
        (TilePath::hashes(0, 999, 1), "tile/0/999.p/1"),
        (TilePath::hashes(1, 1000, 255), "tile/1/x001/000.p/255"),
        (TilePath::hashes(63, 273, 112), "tile/63/273.p/112"),
        (
            TilePath::entries(u64::MAX, 256),
            "tile/entries/x018/x446/x744/x073/x709/x551/615",
        ),
    ] {
        assert_eq!(path.to_string(), text);
        assert_eq!(TilePath::parse(text), Ok(path));
    }
    for bad in [
        "",
        "/tile/0/000",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/x000/001",
        "tile/0/x001",
        "tile/0/001/001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1/",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/+01",
        "tile/0/../0/000",
    ] {
        assert_eq!(TilePath::parse(bad), Err(TileError::BadPath), "{bad}");
    }
}

#[test]
fn the_tiles_of_70000_and_256_leaves_are_those_of_the_standard() {
    let count = |size, kind, full| {
        tiles_for_size(size)
            .filter(|t| t.kind == kind && t.is_full() == full)
            .count()
    };
    let hashes = |level| TileKind::Hashes { level };
    assert_eq!(count(70_000, hashes(0), true), 273);
    assert_eq!(count(70_000, TileKind::Entries, true), 273);
    assert_eq!(count(70_000, hashes(1), true), 1);
    assert_eq!(count(70_000, hashes(2), true), 0);
    let partial: Vec<String> = tiles_for_size(70_000)
        .filter(|t| !t.is_full())
        .map(|t| t.to_string())
        .collect();
    assert_eq!(
        partial,
        [
            "tile/entries/273.p/112",
            "tile/0/273.p/112",
            "tile/1/001.p/17",
            "tile/2/000.p/1"
        ]
    );
    let all: Vec<String> = tiles_for_size(256).map(|t| t.to_string()).collect();
    assert_eq!(all, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(tiles_for_size(0).count(), 0);
}

#[test]
fn tiles_and_bundles_have_exactly_their_width() {
    let tile = Tile {
        hashes: vec![[1; 32], [2; 32]],
    };
    assert_eq!(Tile::decode(&tile.encode(), 2), Ok(tile.clone()));
    assert!(Tile::decode(&tile.encode(), 1).is_err());
    assert!(Tile::decode(&tile.encode(), 3).is_err());
    let bundle = EntryBundle {
        entries: vec![b"a".to_vec(), vec![], vec![7; 65_535]],
    };
    let bytes = bundle.encode().unwrap();
    assert_eq!(bytes.get(..5), Some(&[0, 1, b'a', 0, 0][..]));
    assert_eq!(EntryBundle::decode(&bytes, 3), Ok(bundle));
    for width in [0, 2, 4] {
        assert!(EntryBundle::decode(&bytes, width).is_err());
    }
    let long = EntryBundle {
        entries: vec![vec![0; 65_536]],
    };
    assert_eq!(
        long.encode(),
        Err(TileError::EntryTooLong { length: 65_536 })
    );
}

proptest! {
    #[test]
    fn every_tile_path_reads_back(level in 0..64_u8, index: u64, width in 1..=256_u16, e: bool) {
        let path =
            if e { TilePath::entries(index, width) } else { TilePath::hashes(level, index, width) };
        prop_assert_eq!(TilePath::parse(&path.to_string()), Ok(path));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}", bytes: Vec<u8>, width: u16) {
        let _ = Note::parse(&text);
        let _ = Note::parse(&format!("{text}\n\n\u{2014} {text}\n"));
        let _ = Checkpoint::parse(&text);
        let _ = VerifierKey::parse(&text);
        let _ = EntryBundle::decode(&bytes, width);
        let _ = Tile::decode(&bytes, width);
        if let Ok(path) = TilePath::parse(&text) {
            prop_assert_eq!(path.to_string(), text);
        }
    }
}
