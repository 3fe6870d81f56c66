use super::*;
use secrecy::SecretBox;
use serde_json::json;

fn key(kid: &str) -> ServiceTokenKey {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let doc = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(doc.as_ref()).unwrap();
    ServiceTokenKey {
        kid: kid.into(),
        public: pair.public_key().as_ref().try_into().unwrap(),
        pkcs8: SecretBox::new(Box::new(doc.as_ref().to_vec())),
    }
}

fn binding() -> Binding {
    Binding {
        tenant: TenantId::new(),
        tenant_name: "acme".parse().unwrap(),
        issuer: "https://issuer.example".into(),
        kind: IssuerKind::Pipelines,
        signers: None,
    }
}

fn id_token(expires: i64, claims: Value) -> VerifiedToken {
    VerifiedToken {
        subject: "job".into(),
        expires,
        jti: None,
        mfa: false,
        claims: claims.as_object().unwrap().clone(),
        sha256: [0; 32],
    }
}

const NOW: Micros = Micros::from_seconds(1_000_000);

#[test]
fn it_lives_five_minutes_and_never_longer_than_the_id_token() {
    let life = |expires: i64| {
        claims_for("s", binding(), &id_token(expires, json!({})), NOW).map(|c| c.exp - c.iat)
    };
    assert_eq!(life(1_000_000 + 3600), Ok(300));
    assert_eq!(life(1_000_000 + 100), Ok(100));
    assert_eq!(life(1_000_000), Err(TokenError::Expired { ago: 0 }));
    assert_eq!(life(999_990), Err(TokenError::Expired { ago: 10 }));
}

#[test]
fn only_plain_claims_are_carried() {
    let token = id_token(
        2_000_000,
        json!({"a": "x", "n": 1, "b": true, "l": [1], "z": null,
               "kubernetes.io": {"namespace": "ci", "groups": ["x"]}, "o": {"l": []}}),
    );
    let claims = claims_for("s", binding(), &token, NOW).unwrap().claims;
    assert_eq!(
        Value::Object(claims),
        json!({"a": "x", "n": 1, "b": true, "kubernetes.io": {"namespace": "ci"}})
    );
    let big = id_token(2_000_000, json!({"a": "x".repeat(9000)}));
    assert_eq!(
        claims_for("s", binding(), &big, NOW),
        Err(TokenError::ClaimsTooLarge { limit: MAX_CLAIMS })
    );
}

#[test]
fn a_token_is_verified_until_it_ends_cached_or_not() {
    let keys = [key("a")];
    let tokens = ServiceTokens::new("s", &keys);
    let claims = claims_for("s", binding(), &id_token(2_000_000, json!({})), NOW).unwrap();
    let token = tokens.mint(&claims).unwrap();
    for _ in 0..2 {
        assert_eq!(*tokens.verify(&token, NOW).unwrap(), claims);
    }
    assert!(
        tokens
            .verify(&token, Micros::from_seconds(1_000_299))
            .is_ok()
    );
    assert_eq!(
        tokens.verify(&token, Micros::from_seconds(1_000_300)),
        Err(ServiceTokenError::Expired)
    );
}

#[test]
fn tokens_of_others_and_other_tokens_are_refused() {
    let keys = [key("a")];
    let tokens = ServiceTokens::new("s", &keys);
    let claims = claims_for("s", binding(), &id_token(2_000_000, json!({})), NOW).unwrap();

    // Same kid, another key; another deployment's name; an older key that was dropped.
    let foreign = ServiceTokens::new("s", &[key("a")]).mint(&claims).unwrap();
    let mut elsewhere = claims.clone();
    elsewhere.iss = "t".into();
    let elsewhere = tokens.mint(&elsewhere).unwrap();
    let dropped = ServiceTokens::new("s", &[key("b")]).mint(&claims).unwrap();
    // An ID token by the very key, but not of our type.
    let good = tokens.mint(&claims).unwrap();
    let mut tampered = good.clone();
    tampered.replace_range(
        good.len() - 4..good.len() - 3,
        if good.contains("A.") { "B" } else { "-" },
    );
    for bad in [foreign, elsewhere, dropped, "x.y.z".into(), String::new()] {
        assert_eq!(
            tokens.verify(&bad, NOW),
            Err(ServiceTokenError::NotOurs),
            "{bad}"
        );
    }
    if tampered != good {
        assert_eq!(
            tokens.verify(&tampered, NOW),
            Err(ServiceTokenError::NotOurs)
        );
    }
}

#[test]
fn the_previous_key_still_verifies() {
    let (old, new) = (key("old"), key("new"));
    let claims = claims_for("s", binding(), &id_token(2_000_000, json!({})), NOW).unwrap();
    let token = ServiceTokens::new("s", std::slice::from_ref(&old))
        .mint(&claims)
        .unwrap();
    assert!(
        ServiceTokens::new("s", &[new, old])
            .verify(&token, NOW)
            .is_ok()
    );
}

#[test]
fn only_tokens_of_our_type_and_audience_are_service_tokens() {
    type Change = dyn Fn(&mut Header, &mut Value);
    let keys = [key("a")];
    let tokens = ServiceTokens::new("s", &keys);
    let claims = claims_for("s", binding(), &id_token(2_000_000, json!({})), NOW).unwrap();
    let signed = |change: &Change| {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("a".into());
        header.typ = Some(TYP.into());
        let mut body = serde_json::to_value(&claims).unwrap();
        change(&mut header, &mut body);
        let key = EncodingKey::from_ed_der(keys[0].pkcs8.expose_secret());
        jsonwebtoken::encode(&header, &body, &key).unwrap()
    };
    assert!(tokens.verify(&signed(&|_, _| ()), NOW).is_ok());
    let refused: [&Change; 7] = [
        &|h, _| h.typ = Some("JWT".into()),
        &|h, _| h.typ = None,
        &|h, _| h.kid = None,
        &|h, _| h.crit = Some(vec!["exp".into()]),
        &|_, b| b["aud"] = json!("https://sign.example/acme"),
        &|_, b| b["aud"] = json!([AUDIENCE, "other"]),
        &|_, b| b["iss"] = json!(["s", "t"]),
    ];
    for (n, change) in refused.into_iter().enumerate() {
        assert_eq!(
            tokens.verify(&signed(change), NOW),
            Err(ServiceTokenError::NotOurs),
            "change {n}"
        );
    }
}
