use super::*;
use crate::description::operations;
use crate::problem::Kind;

/// `make openapi` rewrites the file.
#[test]
fn the_description_on_disk_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, openapi_text()).unwrap();
    }
    let on_disk = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        on_disk == openapi_text(),
        "openapi/openapi.json is stale: run make openapi"
    );
}

#[test]
fn every_operation_is_described_and_guarded() {
    let mut spec = openapi();
    assert!(spec.paths.paths.len() >= 25, "{}", spec.paths.paths.len());
    for (path, item) in &mut spec.paths.paths {
        assert!(!path.contains('*'), "{path}");
        for (_, operation) in operations(item) {
            assert!(
                operation.summary.as_ref().is_some_and(|s| s.len() > 5),
                "{path}"
            );
            // Every status has its own entry: "default" would allow any.
            assert!(
                !operation.responses.responses.contains_key("default"),
                "{path}"
            );
            let open = operation.security.as_ref().is_some_and(Vec::is_empty);
            assert_eq!(open, PUBLIC.contains(&path.as_str()), "{path}");
            for name in path.split('/').filter_map(|s| s.strip_prefix('{')) {
                let name = name.trim_end_matches('}');
                assert!(
                    operation
                        .parameters
                        .iter()
                        .flatten()
                        .any(|p| matches!(p, utoipa::openapi::RefOr::T(p) if p.name == name)),
                    "{path} {name}"
                );
            }
        }
    }
}

#[test]
fn every_problem_code_is_described() {
    let text = openapi_text();
    for kind in Kind::ALL {
        let row = kind.row();
        assert!(
            text.contains(&format!("`{}`: {}", row.code, row.title)),
            "{}",
            row.code
        );
    }
    let spec: serde_json::Value = serde_json::from_str(text).unwrap();
    let codes = &spec["components"]["schemas"]["ProblemDocument"]["properties"]["code"]["enum"];
    assert_eq!(codes.as_array().map(Vec::len), Some(Kind::ALL.len()));
}
