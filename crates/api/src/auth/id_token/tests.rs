//! Each rule against a real issuer: discovery and keys come over loopback.

use super::*;
use crate::auth::{FetchPolicy, KeysError};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_core::ports::rows::IssuerKind;
use countersign_core::{Clock, TenantId};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

const AUD: &str = "https://sign.example/acme";
const NOW: i64 = 1_800_000_000;

struct TestClock(AtomicI64);
impl Clock for TestClock {
    fn now(&self) -> Micros {
        Micros::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

struct Key {
    kid: String,
    alg: Algorithm,
    key: EncodingKey,
    ed25519: Option<Vec<u8>>,
}

impl Key {
    fn p256(kid: &str) -> Self {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let doc = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        Self {
            kid: kid.into(),
            alg: Algorithm::ES256,
            key: EncodingKey::from_ec_der(doc.as_ref()),
            ed25519: None,
        }
    }

    fn ed25519(kid: &str) -> Self {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let doc = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(doc.as_ref()).unwrap();
        Self {
            ed25519: Some(pair.public_key().as_ref().to_vec()),
            kid: kid.into(),
            alg: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(doc.as_ref()),
        }
    }

    fn rsa(kid: &str) -> Self {
        use aws_lc_rs::encoding::AsDer as _;
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let body = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        Self {
            kid: kid.into(),
            alg: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
            ed25519: None,
        }
    }

    fn jwk(&self) -> Value {
        if let Some(x) = &self.ed25519 {
            let x = URL_SAFE_NO_PAD.encode(x);
            return json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x});
        }
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.alg).unwrap()).unwrap();
        let map = jwk.as_object_mut().unwrap();
        map.insert("kid".into(), json!(self.kid));
        map.insert("use".into(), json!("sig"));
        map.remove("alg");
        jwk
    }

    fn header(&self) -> Header {
        let mut h = Header::new(self.alg);
        h.kid = Some(self.kid.clone());
        h
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.key).unwrap()
    }
}

struct Issuer {
    row: IssuerRow,
    clock: Arc<TestClock>,
    verifier: IdTokenVerifier,
    fetches: Arc<AtomicUsize>,
    served: Arc<Mutex<Vec<Value>>>,
    down: Arc<Mutex<bool>>,
    slow: Arc<Mutex<Duration>>,
}

impl Issuer {
    async fn new(keys: &[&Key]) -> Self {
        Self::with(keys, |iss| iss.to_owned()).await
    }

    async fn with(keys: &[&Key], says: fn(&str) -> String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/realm", listener.local_addr().unwrap());
        let served = Arc::new(Mutex::new(keys.iter().map(|k| k.jwk()).collect::<Vec<_>>()));
        let fetches = Arc::new(AtomicUsize::new(0));
        let down = Arc::new(Mutex::new(false));
        let slow = Arc::new(Mutex::new(Duration::ZERO));
        let (d, s, f, dn, sl) = (
            json!({"issuer": says(&issuer), "jwks_uri": format!("{issuer}/jwks")}),
            Arc::clone(&served),
            Arc::clone(&fetches),
            Arc::clone(&down),
            Arc::clone(&slow),
        );
        let app = Router::new()
            .route(
                "/realm/.well-known/openid-configuration",
                get(async move || Json(d)),
            )
            .route(
                "/realm/jwks",
                get(async move || {
                    f.fetch_add(1, Ordering::SeqCst);
                    let pause = *sl.lock().unwrap();
                    tokio::time::sleep(pause).await;
                    if *dn.lock().unwrap() {
                        return Err(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
                    }
                    let keys = s.lock().unwrap().clone();
                    Ok(Json(json!({ "keys": keys })))
                }),
            );
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let policy = FetchPolicy {
            loopback_http: true,
            private_addresses: true,
        };
        let cache = IssuerKeys::new(policy, Arc::clone(&clock) as Arc<dyn Clock>, 64);
        Self {
            row: IssuerRow {
                tenant: TenantId::new(),
                issuer,
                kind: IssuerKind::Pipelines,
                audience: AUD.into(),
                max_token_age_s: 600,
                mfa_amr: vec!["mfa".into()],
                mfa_acr: vec!["gold".into()],
                ca_pem: None,
                client_id: None,
            },
            clock,
            verifier: IdTokenVerifier::new(Arc::new(cache)),
            fetches,
            served,
            down,
            slow,
        }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.row.issuer, "aud": AUD, "sub": "repo:acme/app", "jti": "1",
            "iat": NOW, "nbf": NOW - 5, "exp": NOW + 300, "repository_id": "4711",
        })
    }

    fn claims_with(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let mut c = self.claims();
        change(c.as_object_mut().unwrap());
        c
    }

    async fn verify(&self, token: &str) -> Result<VerifiedToken, AuthError> {
        self.verifier
            .verify(&self.row, token, self.clock.now())
            .await
    }

    async fn refusal(&self, token: &str) -> TokenError {
        match self.verify(token).await {
            Err(AuthError::IdToken(e)) => e,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

fn b64(v: &Value) -> String {
    URL_SAFE_NO_PAD.encode(v.to_string())
}

#[tokio::test]
async fn a_good_token_of_each_algorithm_is_accepted() {
    for key in [Key::p256("a"), Key::ed25519("b"), Key::rsa("c")] {
        let issuer = Issuer::new(&[&key]).await;
        let token = issuer.verify(&key.sign(&issuer.claims())).await.unwrap();
        assert_eq!(token.subject, "repo:acme/app");
        assert_eq!(token.expires, NOW + 300);
        assert_eq!(token.jti.as_deref(), Some("1"));
        assert!(!token.mfa);
    }
}

#[tokio::test]
async fn pss_is_accepted_with_an_rsa_key_unless_the_key_says_otherwise() {
    let mut key = Key::rsa("a");
    let issuer = Issuer::new(&[&key]).await;
    key.alg = Algorithm::PS384;
    let token = key.sign(&issuer.claims());
    assert!(issuer.verify(&token).await.is_ok());

    let mut jwk = key.jwk();
    jwk.as_object_mut()
        .unwrap()
        .insert("alg".into(), json!("RS256"));
    let (_, only) = super::super::jws::PublicKey::from_jwk(&jwk).unwrap();
    assert!(only.allows(Algorithm::RS256));
    assert!(!only.allows(Algorithm::PS384) && !only.allows(Algorithm::ES256));
}

#[test]
fn keys_that_cannot_verify_are_not_taken() {
    use super::super::jws::PublicKey;
    let short = |n: usize| URL_SAFE_NO_PAD.encode(vec![1; n]);
    let p256 = Key::p256("k").jwk();
    assert!(PublicKey::from_jwk(&p256).is_some());
    let with = |name: &str, value: Value| {
        let mut jwk = p256.clone();
        jwk[name] = value;
        jwk
    };
    let mut no_kid = p256.clone();
    no_kid.as_object_mut().unwrap().remove("kid");
    let mut shifted = with("x", json!(short(31)));
    shifted["y"] = json!(short(33));
    for bad in [
        no_kid,
        shifted,
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ES256K")),
        with("alg", json!(5)),
        with("crv", json!("P-384")),
        with("crv", json!("P-521")),
        json!({"kty": "oct", "kid": "k", "k": short(32)}),
        json!({"kty": "RSA", "kid": "k", "n": short(128), "e": "AQAB"}),
        json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": short(31)}),
        json!({"kty": "OKP", "kid": "k", "crv": "Ed448", "x": short(57)}),
        json!("key"),
    ] {
        assert!(PublicKey::from_jwk(&bad).is_none(), "{bad}");
    }
    // A key whose own algorithm is another type's can do nothing.
    let (_, mixed) = PublicKey::from_jwk(&with("alg", json!("RS256"))).unwrap();
    assert!(!mixed.allows(Algorithm::ES256) && !mixed.allows(Algorithm::RS256));
}

#[tokio::test]
async fn a_claim_that_stands_twice_is_refused() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let claims = issuer.claims().to_string();
    let twice = claims.replacen('{', r#"{"sub":"repo:acme/other","#, 1);
    for (claims, good) in [(claims, true), (twice, false)] {
        let signed = format!(
            "{}.{}",
            b64(&json!({"alg": "ES256", "kid": "k"})),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key.key, Algorithm::ES256).unwrap();
        let token = format!("{signed}.{signature}");
        if good {
            assert!(issuer.verify(&token).await.is_ok());
        } else {
            let refused = TokenError::Parts(PartsError::NotAJwt);
            assert_eq!(issuer.refusal(&token).await, refused);
        }
    }
}

#[tokio::test]
async fn a_token_by_another_key_under_the_same_id_is_refused() {
    let (good, evil) = (Key::p256("k"), Key::p256("k"));
    let issuer = Issuer::new(&[&good]).await;
    assert_eq!(
        issuer.refusal(&evil.sign(&issuer.claims())).await,
        TokenError::Signature
    );
}

#[tokio::test]
async fn a_changed_claim_breaks_the_signature() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let token = key.sign(&issuer.claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let header = signed.split_once('.').unwrap().0;
    let forged = b64(&issuer.claims_with(|c| {
        c.insert("repository_id".into(), json!("1"));
    }));
    assert_eq!(
        issuer
            .refusal(&format!("{header}.{forged}.{signature}"))
            .await,
        TokenError::Signature
    );
}

#[tokio::test]
async fn alg_none_is_refused_in_every_spelling() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    for alg in ["none", "None", "NONE", ""] {
        let token = format!(
            "{}.{}.",
            b64(&json!({"alg": alg, "kid": "k"})),
            b64(&issuer.claims())
        );
        assert_eq!(
            issuer.refusal(&token).await,
            TokenError::Algorithm { alg: alg.into() }
        );
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn hs256_with_the_public_key_as_secret_is_refused() {
    let key = Key::rsa("k");
    let issuer = Issuer::new(&[&key]).await;
    let secret = key.jwk()["n"].as_str().unwrap().to_owned();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k".into());
    for secret in [
        EncodingKey::from_secret(secret.as_bytes()),
        EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(&secret).unwrap()),
    ] {
        let token = encode(&header, &issuer.claims(), &secret).unwrap();
        assert_eq!(
            issuer.refusal(&token).await,
            TokenError::Algorithm {
                alg: "HS256".into()
            }
        );
    }
}

#[tokio::test]
async fn an_algorithm_of_another_key_type_is_refused() {
    let (ec, ed) = (Key::p256("k"), Key::ed25519("k"));
    let issuer = Issuer::new(&[&ec]).await;
    assert_eq!(
        issuer.refusal(&ed.sign(&issuer.claims())).await,
        TokenError::AlgorithmForKey {
            alg: "EdDSA".into()
        }
    );
}

#[tokio::test]
async fn a_token_without_kid_or_with_crit_is_refused() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let token = encode(&Header::new(Algorithm::ES256), &issuer.claims(), &key.key).unwrap();
    assert_eq!(issuer.refusal(&token).await, TokenError::NoKeyId);

    let token = format!(
        "{}.{}.AAAA",
        b64(&json!({"alg": "ES256", "kid": "k", "crit": ["exp"]})),
        b64(&issuer.claims())
    );
    assert_eq!(issuer.refusal(&token).await, TokenError::Critical);
}

#[tokio::test]
async fn audience_must_be_exactly_the_registered_one() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let with = |aud: Value| {
        key.sign(&issuer.claims_with(|c| {
            c.insert("aud".into(), aud);
        }))
    };
    let expected = || AUD.to_owned();
    for (aud, refusal) in [
        (
            json!("sigstore"),
            TokenError::Audience {
                expected: expected(),
            },
        ),
        (
            json!(format!("{AUD}/")),
            TokenError::Audience {
                expected: expected(),
            },
        ),
        (
            json!(["other"]),
            TokenError::Audience {
                expected: expected(),
            },
        ),
        (json!([AUD, "other"]), TokenError::SeveralAudiences),
        (json!([AUD, AUD]), TokenError::SeveralAudiences),
        (json!([]), TokenError::Missing("aud")),
        (json!(5), TokenError::BadClaim("aud")),
    ] {
        assert_eq!(issuer.refusal(&with(aud.clone())).await, refusal, "{aud}");
    }
    assert!(issuer.verify(&with(json!([AUD]))).await.is_ok());
}

#[tokio::test]
async fn required_claims_are_required() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    for claim in ["aud", "exp", "iat", "sub"] {
        let token = key.sign(&issuer.claims_with(|c| {
            c.remove(claim);
        }));
        assert_eq!(issuer.refusal(&token).await, TokenError::Missing(claim));
    }
    for claim in ["exp", "iat", "nbf"] {
        for bad in [
            json!("1800000000"),
            json!(-1),
            json!(1e300),
            json!(true),
            json!(null),
        ] {
            let token = key.sign(&issuer.claims_with(|c| {
                c.insert(claim.into(), bad.clone());
            }));
            assert_eq!(
                issuer.refusal(&token).await,
                TokenError::BadClaim(claim),
                "{bad}"
            );
        }
    }
    let token = key.sign(&issuer.claims_with(|c| {
        c.insert("iss".into(), json!("https://other.example"));
    }));
    assert_eq!(issuer.refusal(&token).await, TokenError::Issuer);
}

#[tokio::test]
async fn times_are_held_to_sixty_seconds_of_skew() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let at = |claim: &'static str, value: i64| {
        key.sign(&issuer.claims_with(|c| {
            c.insert(claim.into(), json!(value));
        }))
    };
    assert!(issuer.verify(&at("exp", NOW - 59)).await.is_ok());
    assert_eq!(
        issuer.refusal(&at("exp", NOW - 60)).await,
        TokenError::Expired { ago: 60 }
    );
    assert!(issuer.verify(&at("nbf", NOW + 60)).await.is_ok());
    assert_eq!(
        issuer.refusal(&at("nbf", NOW + 61)).await,
        TokenError::NotYet { ahead: 61 }
    );
    assert!(issuer.verify(&at("iat", NOW + 60)).await.is_ok());
    assert_eq!(
        issuer.refusal(&at("iat", NOW + 61)).await,
        TokenError::FromTheFuture { ahead: 61 }
    );
}

#[tokio::test]
async fn a_token_with_hours_of_life_is_too_old_after_ten_minutes() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    let token = |age: i64| {
        key.sign(&issuer.claims_with(|c| {
            c.insert("iat".into(), json!(NOW - age));
            c.insert("exp".into(), json!(NOW + 6 * 3600));
        }))
    };
    assert!(issuer.verify(&token(600)).await.is_ok());
    assert_eq!(
        issuer.refusal(&token(601)).await,
        TokenError::TooOld { age: 601, max: 600 }
    );
}

#[tokio::test]
async fn mfa_is_what_the_issuers_settings_say() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    for (claim, value, mfa) in [
        ("amr", json!(["pwd", "mfa"]), true),
        ("amr", json!(["pwd"]), false),
        ("amr", json!("mfa"), false),
        ("acr", json!("gold"), true),
        ("acr", json!("silver"), false),
    ] {
        let token = key.sign(&issuer.claims_with(|c| {
            c.insert(claim.into(), value.clone());
        }));
        assert_eq!(
            issuer.verify(&token).await.unwrap().mfa,
            mfa,
            "{claim} {value}"
        );
    }
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_reaches_the_issuer_once_a_minute() {
    let key = Key::p256("k");
    let issuer = Issuer::new(&[&key]).await;
    issuer.verify(&key.sign(&issuer.claims())).await.unwrap();
    let before = issuer.fetches.load(Ordering::SeqCst);
    issuer.clock.0.fetch_add(61, Ordering::SeqCst);
    for n in 0..200 {
        let mut other = Key::ed25519("x");
        other.kid = format!("random-{n}");
        let token = other.sign(&issuer.claims());
        assert_eq!(
            issuer.verify(&token).await,
            Err(AuthError::Keys(KeysError::UnknownKey))
        );
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), before + 1);
    // The known key works all along.
    assert!(issuer.verify(&key.sign(&issuer.claims())).await.is_ok());
}

#[tokio::test]
async fn many_at_once_make_one_fetch() {
    let key = Key::p256("k");
    let issuer = Arc::new(Issuer::new(&[&key]).await);
    let token = key.sign(&issuer.claims());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (issuer, token) = (Arc::clone(&issuer), token.clone());
            tokio::spawn(async move { issuer.verify(&token).await.is_ok() })
        })
        .collect();
    for t in tasks {
        assert!(t.await.unwrap());
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_stops_the_fetch_for_nobody() {
    let key = Key::p256("k");
    let issuer = Arc::new(Issuer::new(&[&key]).await);
    *issuer.slow.lock().unwrap() = Duration::from_millis(300);
    let token = key.sign(&issuer.claims());
    let gone = tokio::time::timeout(Duration::from_millis(50), issuer.verify(&token)).await;
    assert!(gone.is_err());
    // Nothing of "a fetch failed lately", and no second fetch.
    assert!(issuer.verify(&token).await.is_ok());
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_holds_up_few_and_not_for_long() {
    let key = Key::p256("k");
    let issuer = Arc::new(Issuer::new(&[&key]).await);
    *issuer.slow.lock().unwrap() = Duration::from_secs(60);
    let token = key.sign(&issuer.claims());
    let began = std::time::Instant::now();
    let tasks: Vec<_> = (0..80)
        .map(|_| {
            let (issuer, token) = (Arc::clone(&issuer), token.clone());
            tokio::spawn(async move { issuer.verify(&token).await })
        })
        .collect();
    let mut crowded = 0;
    let mut slow = 0;
    for t in tasks {
        match t.await.unwrap() {
            Err(AuthError::Keys(KeysError::Crowded)) => crowded += 1,
            Err(AuthError::Keys(KeysError::Slow | KeysError::FailedLately(_))) => slow += 1,
            other => panic!("{other:?}"),
        }
    }
    // 64 may wait; one of them fetched, and the others heard of it.
    assert_eq!((crowded, slow), (16, 64));
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_rotated_key_is_found_after_the_minute() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let issuer = Issuer::new(&[&old]).await;
    assert!(issuer.verify(&old.sign(&issuer.claims())).await.is_ok());
    *issuer.served.lock().unwrap() = vec![new.jwk()];
    let token = new.sign(&issuer.claims());
    assert_eq!(
        issuer.verify(&token).await,
        Err(AuthError::Keys(KeysError::UnknownKey))
    );
    issuer.clock.0.fetch_add(60, Ordering::SeqCst);
    assert!(issuer.verify(&token).await.is_ok());
}

#[tokio::test]
async fn old_keys_outlive_an_issuer_that_is_away_but_not_for_ever() {
    let key = Key::p256("k");
    let mut issuer = Issuer::new(&[&key]).await;
    issuer.row.max_token_age_s = 200_000;
    let token = key.sign(&issuer.claims_with(|c| {
        c.insert("exp".into(), json!(NOW + 200_000));
    }));
    assert!(issuer.verify(&token).await.is_ok());
    *issuer.down.lock().unwrap() = true;
    issuer.clock.0.store(NOW + 23 * 3600, Ordering::SeqCst);
    assert!(issuer.verify(&token).await.is_ok());
    issuer.clock.0.store(NOW + 24 * 3600, Ordering::SeqCst);
    assert!(matches!(
        issuer.verify(&token).await,
        Err(AuthError::Keys(
            KeysError::Fetch(_) | KeysError::FailedLately(_)
        ))
    ));
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let key = Key::p256("k");
    let issuer = Issuer::with(&[&key], |iss| format!("{iss}/")).await;
    assert!(matches!(
        issuer.verify(&key.sign(&issuer.claims())).await,
        Err(AuthError::Keys(KeysError::NotTheIssuer { .. }))
    ));
}

#[tokio::test]
async fn in_production_a_loopback_issuer_is_not_fetched() {
    let key = Key::p256("k");
    let mut issuer = Issuer::new(&[&key]).await;
    let cache = IssuerKeys::new(
        FetchPolicy::default(),
        Arc::clone(&issuer.clock) as Arc<dyn Clock>,
        64,
    );
    issuer.verifier = IdTokenVerifier::new(Arc::new(cache));
    assert!(matches!(
        issuer.verify(&key.sign(&issuer.claims())).await,
        Err(AuthError::Keys(KeysError::Fetch(_)))
    ));
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    let long = "a".repeat(20_000);
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.",
        "e30=.e30.e30",
        "e30.W10.e30",
        &long,
    ] {
        assert!(unverified_issuer(bad).is_err(), "{bad:.20}");
    }
}
