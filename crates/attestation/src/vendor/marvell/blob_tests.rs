use super::*;
use proptest::prelude::*;

fn object(handle: u32, attributes: &[(u32, &[u8])]) -> Vec<u8> {
    let mut area = Vec::new();
    for (kind, value) in attributes {
        area.extend(kind.to_be_bytes());
        area.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        area.extend(*value);
    }
    let count = u32::try_from(attributes.len()).unwrap();
    let size = u32::try_from(area.len()).unwrap();
    [
        &handle.to_be_bytes()[..],
        &count.to_be_bytes(),
        &size.to_be_bytes(),
        &area,
    ]
    .concat()
}

fn pair() -> Vec<u8> {
    let first = object(7, &[(0, &[2]), (0x162, &[1])]);
    let second = object(8, &[(0, &[3]), (0x162, &[0]), (3, b"label")]);
    blob(first, second)
}

fn blob(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    let offset = u16::try_from(8 + first.len()).unwrap();
    let mut buffer = [[0, 1], [0, 3], [0, 8], offset.to_be_bytes()].concat();
    buffer.extend(first);
    buffer.extend(second);
    let size = u32::try_from(buffer.len()).unwrap();
    let mut blob = [0, 3, 32 + size + 256, size].map(u32::to_be_bytes).concat();
    blob.extend([7_u64, 8].map(u64::to_be_bytes).concat());
    blob.extend(buffer);
    blob.extend([0x55; 256]);
    blob
}

fn with(at: usize, value: u8) -> Result<(), BlobError> {
    let mut blob = pair();
    blob[at] = value;
    parse(&blob).map(|_| ())
}

#[test]
fn a_pair_is_read() {
    let bytes = pair();
    let blob = parse(&bytes).unwrap();
    assert_eq!((blob.flags, blob.buffer_flags), (3, 3));
    assert_eq!(blob.handles, [7, 8]);
    assert_eq!(blob.objects.len(), 2);
    assert_eq!(blob.objects[1].handle, 8);
    assert_eq!(blob.objects[1].attributes[&3], b"label");
    assert_eq!(blob.signed.len() + 256, bytes.len());
    assert!(looks_like_v2(&bytes) && !looks_like_v1(&bytes));
}

#[test]
fn every_length_and_offset_is_exact() {
    let field = |field, found, expected| {
        Err(BlobError::Field {
            field,
            found,
            expected,
        })
    };
    assert_eq!(with(3, 1), field("response code", 1, 0));
    let n = u64::try_from(pair().len()).unwrap();
    assert_eq!(with(11, 0), field("total size", n & !0xff, n));
    assert_eq!(with(15, 0), Err(BlobError::Truncated("buffer size")));
    assert_eq!(with(33, 2), field("buffer version", 2, 1));
    assert_eq!(with(37, 9), field("offset of object 1", 9, 8));
    assert_eq!(with(39, 9), field("offset of object 2", 9, 38));
    // One object where two are: the second would go unread.
    assert_eq!(with(39, 0), field("bytes after the last object", 43, 0));
    assert_eq!(with(51, 17), field("size of attributes", 17, 18));
    assert_eq!(with(47, 1), field("size of attributes", 18, 9));
    // A finding of the fuzz target: flags that are not recognised were read all the same.
    for (at, to, found) in [(4, 0x80, 0x8000_0003), (6, 1, 0x103), (7, 0, 0)] {
        assert_eq!(with(at, to), field("flags", found, 0xff));
    }
}

#[test]
fn an_attribute_stands_once() {
    let mut blob = pair();
    let second = blob.windows(4).position(|w| w == [0, 0, 1, 0x62]).unwrap();
    blob[second..second + 4].fill(0);
    assert_eq!(parse(&blob).map(|_| ()), Err(BlobError::Duplicate(0)));
}

#[test]
fn cut_or_lengthened_it_is_an_error() {
    let mut bytes = pair();
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "{length}");
    }
    bytes.push(0);
    assert!(parse(&bytes).is_err());
    assert_eq!(
        parse(&vec![0; MAX_BLOB + 1]),
        Err(BlobError::TooLarge(MAX_BLOB + 1))
    );
}

#[test]
fn the_older_layout_is_refused_by_name() {
    let mut bytes = vec![0xab; 20];
    bytes.extend(object(7, &[(0, &[3]), (0x162, &[0])]));
    bytes.extend([0x55; 256]);
    assert_eq!(parse(&bytes).map(|_| ()), Err(BlobError::V1));
    assert!(looks_like_v1(&bytes) && !looks_like_v2(&bytes));
    // Whatever else it is, it is not that.
    assert!(!looks_like_v1(&[0; 300]));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        first in proptest::collection::btree_map(any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200), 0..60),
        second in proptest::collection::btree_map(any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200), 0..60),
    ) {
        let list = |m: &BTreeMap<u32, Vec<u8>>| {
            let all: Vec<(u32, &[u8])> = m.iter().map(|(k, v)| (*k, v.as_slice())).collect();
            object(9, &all)
        };
        let bytes = blob(list(&first), list(&second));
        let read = parse(&bytes).unwrap();
        for (object, wanted) in read.objects.iter().zip([&first, &second]) {
            let found: BTreeMap<u32, Vec<u8>> =
                object.attributes.iter().map(|(k, v)| (*k, v.to_vec())).collect();
            prop_assert_eq!(&found, wanted);
        }
    }

    #[test]
    fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..400_usize, to: u8) {
        let _ = parse(&bytes);
        let _ = (looks_like_v1(&bytes), looks_like_v2(&bytes));
        let mut changed = pair();
        if let Some(b) = changed.get_mut(at) {
            *b = to;
        }
        if let Ok(read) = parse(&changed) {
            // Nothing signed goes unread: the parts make up the whole.
            let objects: usize = read
                .objects
                .iter()
                .map(|o| 12 + o.attributes.values().map(|v| 8 + v.len()).sum::<usize>())
                .sum();
            prop_assert_eq!(32 + 8 + objects, read.signed.len());
        }
    }
}
