//! The logs as they are served: tiles of each size, checkpoints, headers.

use super::{settled, signed_tenant};
use crate::support::judges::{cms_request, size_of, verify_log_py};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, text};
use countersign_core::HashAlgorithm;
use countersign_testkit::issuer::TokenSpec;

#[test]
fn six_hundred_leaves_and_every_tile_on_the_way() {
    let stack = Stack::shared();
    let admin = stack.tenant("log-long");
    let key = stack.signer(&admin, "log-long/release", "ec-p256");
    let raw = stack.raw();
    let token = stack.service_token("log-long", REPOSITORY);
    let dir = stack.path("log-long/key");
    let sign = |from: u32, to: u32| {
        std::thread::scope(|s| {
            for t in 0..6 {
                let (raw, token) = (&raw, &token);
                s.spawn(move || {
                    for n in (from..to).filter(|n| n % 6 == t) {
                        let body = cms_request(&n.to_be_bytes(), HashAlgorithm::Sha256);
                        let answer = raw.sign("log-long", "release", token, &body);
                        assert_eq!(answer.status, 200, "{answer:?}");
                    }
                });
            }
        });
    };
    let began = std::time::Instant::now();
    sign(0, 100);
    settled(&admin, &key, 100);
    let first = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(first[0]["size"], 203);
    admin.ok(&["log", "audit", &text(&dir)]);
    sign(100, 302);
    println!("302 signatures in {:?}", began.elapsed());
    settled(&admin, &key, 302);
    let more = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(more[0]["size"], 607);
    assert_eq!(size_of(&dir), 607);
    for there in [
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/95",
        "tile/0/001",
        "tile/0/002.p/95",
        "tile/1/000.p/2",
    ] {
        assert!(dir.join(there).is_file(), "{there}");
    }
    let report = admin.json(&["log", "audit", &text(&dir)]);
    assert_eq!(report["log"]["counts"]["signed"], 303);
    assert_eq!(report["log"]["counts"]["open"], 0);
    let (code, said) = verify_log_py(&dir, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("303 signed"), "{said}");

    // A partial tile is served for every size the log has had, and none beyond it.
    let id = stack
        .people
        .mint(&TokenSpec::new("log-long-admin", PEOPLE_AUDIENCE).mfa())
        .expect("token");
    let token = raw.exchanged("log-long", &id);
    let get = |path: &str| raw.get(&format!("/log/{key}/tile/{path}"), Some(&token));
    let full = get("0/002.p/95").body;
    let bundle = get("entries/002.p/95").body;
    for width in (1..=95).rev().step_by(7).chain([1]) {
        let tile = get(&format!("0/002.p/{width}"));
        assert_eq!(
            (tile.status, tile.content_type.as_str()),
            (200, "application/octet-stream")
        );
        assert_eq!(tile.body, full[..32 * width]);
        let entries = get(&format!("entries/002.p/{width}"));
        assert_eq!(entries.status, 200);
        assert!(bundle.starts_with(&entries.body), "{width}");
    }
    assert_eq!(get("0/000").body.len(), 256 * 32);
    assert_eq!(get("1/000.p/1").body.len(), 32);
    assert_eq!(
        get("0/000.p/17").body,
        get("0/000").body[..17 * 32],
        "a full tile's beginnings too"
    );
    for absent in [
        "0/002.p/96",
        "0/002.p/255",
        "0/002",
        "0/003",
        "0/003.p/1",
        "1/000.p/3",
        "1/000",
        "2/000.p/1",
        "entries/002.p/96",
        "entries/003.p/1",
        "0/002.p/0",
        "0/002.p/256",
        "0/002.p/095",
        "0/2.p/95",
        "0/x000/002.p/95",
        "00/002.p/95",
        "64/000.p/1",
        "entries/x001/000.p/1",
        "0/000.p/1/",
        "entries",
        "",
        "0/18446744073709551615",
        "-1/000.p/1",
    ] {
        assert_eq!(get(absent).status, 404, "{absent}");
    }
}

#[test]
fn tiles_and_checkpoints_are_served_as_the_standard_says() {
    let stack = Stack::shared();
    let (_, _, _, logs, key) = signed_tenant(stack, "log-http");
    let raw = stack.raw();
    let id = stack
        .people
        .mint(&TokenSpec::new("log-http-admin", PEOPLE_AUDIENCE).mfa())
        .expect("token");
    let token = raw.exchanged("log-http", &id);
    for prefix in [
        format!("/log/{key}"),
        format!("/v1/tenants/log-http/logs/{key}"),
    ] {
        let head = stack.curl(&format!("{prefix}/checkpoint"), &token, &[]);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
        assert!(
            head.headers["cache-control"].starts_with("private, max-age="),
            "{head:?}"
        );
        assert!(!head.headers["cache-control"].contains("immutable"));
        assert_eq!(
            String::from_utf8_lossy(&head.body),
            std::fs::read_to_string(logs.join(&key).join("checkpoint")).expect("checkpoint")
        );
        let tag = &head.headers["etag"];
        let same = stack.curl(
            &format!("{prefix}/checkpoint"),
            &token,
            &[&format!("if-none-match: {tag}")],
        );
        assert_eq!((same.status, same.body.len()), (304, 0), "{same:?}");
        assert_eq!(&same.headers["etag"], tag);
        let other = stack.curl(
            &format!("{prefix}/checkpoint"),
            &token,
            &["if-none-match: \"other\""],
        );
        assert_eq!(other.status, 200);
        for path in ["tile/0/000.p/7", "tile/entries/000.p/7"] {
            let tile = stack.curl(&format!("{prefix}/{path}"), &token, &[]);
            assert_eq!(tile.status, 200, "{tile:?}");
            assert_eq!(tile.headers["content-type"], "application/octet-stream");
            assert_eq!(
                tile.headers["cache-control"],
                "private, max-age=31536000, immutable"
            );
            assert_eq!(
                tile.body,
                std::fs::read(logs.join(&key).join(path)).expect("downloaded")
            );
        }
        // An absence is not kept: the tile will be there one day.
        let none = stack.curl(&format!("{prefix}/tile/0/000.p/200"), &token, &[]);
        assert_eq!(
            (none.status, none.headers["cache-control"].as_str()),
            (404, "no-store")
        );
    }
    let details = format!("/v1/tenants/log-http/logs/{key}/details");
    let answer = stack.curl(&format!("{details}?from=3&limit=1"), &token, &[]);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with("{\"index\":3,"), "{lines}");
    assert_eq!(
        raw.get(&format!("{details}?from=-1"), Some(&token))
            .problem(),
        "bad-request"
    );
    assert_eq!(
        raw.get(&format!("{details}?form=1"), Some(&token))
            .problem(),
        "bad-request"
    );
    assert_eq!(
        raw.get(&format!("{details}?from=99999"), Some(&token)).body,
        b""
    );
}
