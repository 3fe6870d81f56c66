//! How fast is the token itself? Loops of bare `C_SignInit` + `C_Sign`, with and without checking
//! each signature, on the token of a worker's state folder. For `make bench`: prints one JSON line.
//!
//! ```text
//! cargo run --release --example raw_sign -- --state DIR --config FILE \
//!     --algorithm ec-p256 --threads 2 --seconds 3
//! ```
//!
//! It logs in beside a running worker (PKCS#11 logins are per process) and signs a digest that means
//! nothing with a key pair made for the purpose and destroyed at the end. Run it on a bench token only.

use clap::Parser;
use countersign_core::{Digest, KeyAlgorithm, KeyId};
use countersign_hsm_worker::config::{Config, Profile, read_profile};
use countersign_hsm_worker::errors::module_error;
use countersign_hsm_worker::raw_sign::RawSign;
use countersign_hsm_worker::spki::{digest_info, ec_params, ec_spki, ecdsa_der, rsa_spki};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::{Session, UserType};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// A worker's state folder with a token.
    #[arg(long)]
    state: PathBuf,
    /// The worker's configuration.
    #[arg(long)]
    config: PathBuf,
    #[arg(long, default_value = "ec-p256")]
    algorithm: KeyAlgorithm,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let config = Config::read(&args.config)?;
    let profile = read_profile(&config.profile)?;
    let state = args.state.canonicalize()?;
    let conf = state.join("softhsm2.conf");
    if profile.softhsm_directory
        && std::env::var_os("SOFTHSM2_CONF").as_deref() != Some(conf.as_os_str())
    {
        return Err(std::process::Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("SOFTHSM2_CONF", conf)
            .exec()
            .into());
    }
    let (serial, pin) = countersign_hsm_worker::token::open_for_bench(&state, &config)?;
    let pkcs11 = Pkcs11::new(&config.module)?;
    let raw = RawSign::of_module(&config.module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = pkcs11
        .get_slots_with_initialized_token()?
        .into_iter()
        .find(|s| {
            pkcs11
                .get_token_info(*s)
                .is_ok_and(|i| i.serial_number().trim_end() == serial)
        })
        .ok_or("the token is not there")?;
    let guard = pkcs11.open_rw_session(slot)?;
    guard.login(UserType::User, Some(&pin))?;

    let key = KeyId::new();
    let (public, private) = make_pair(&guard, &profile, key, args.algorithm)?;
    let spki = public_key(&guard, public, args.algorithm)?;
    let measured = [false, true].map(|verify| {
        let sessions: Result<Vec<Session>, _> = (0..args.threads)
            .map(|_| pkcs11.open_ro_session(slot))
            .collect();
        sessions.map(|s| {
            measure(
                &raw,
                s,
                private,
                &spki,
                args.algorithm,
                args.seconds,
                verify,
            )
        })
    });
    guard.destroy_object(private)?;
    guard.destroy_object(public)?;
    let [sign, verified] = measured;
    let (sign, verified) = (sign??, verified??);
    println!(
        "{}",
        serde_json::json!({
            "algorithm": args.algorithm.as_str(), "threads": args.threads, "seconds": args.seconds,
            "sign": sign, "sign_and_verify": verified,
        })
    );
    Ok(())
}

fn make_pair(
    session: &Session,
    profile: &Profile,
    key: KeyId,
    algorithm: KeyAlgorithm,
) -> Result<(ObjectHandle, ObjectHandle), Box<dyn Error>> {
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Verify(true),
        Attribute::Id(key.as_bytes().to_vec()),
    ];
    let mechanism = if algorithm.is_rsa() {
        let bits: u64 = if algorithm == KeyAlgorithm::Rsa4096 {
            4096
        } else {
            3072
        };
        public.push(Attribute::ModulusBits(bits.into()));
        public.push(Attribute::PublicExponent(vec![1, 0, 1]));
        Mechanism::RsaPkcsKeyPairGen
    } else {
        public.push(Attribute::EcParams(ec_params(algorithm).to_vec()));
        Mechanism::EccKeyPairGen
    };
    let private =
        countersign_hsm_worker::attributes::private_template(profile, key, algorithm, "bench");
    Ok(session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|e| module_error(&e))?)
}

fn public_key(
    session: &Session,
    public: ObjectHandle,
    algorithm: KeyAlgorithm,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let wanted: &[AttributeType] = if algorithm.is_rsa() {
        &[AttributeType::Modulus, AttributeType::PublicExponent]
    } else {
        &[AttributeType::EcPoint]
    };
    let spki = match session.get_attributes(public, wanted)?.as_slice() {
        [Attribute::EcPoint(p)] => ec_spki(algorithm, p),
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => rsa_spki(algorithm, n, e),
        _ => None,
    };
    Ok(spki.ok_or("no public key")?)
}

fn measure(
    raw: &RawSign,
    sessions: Vec<Session>,
    key: ObjectHandle,
    spki: &[u8],
    algorithm: KeyAlgorithm,
    seconds: u64,
    verify: bool,
) -> Result<serde_json::Value, Box<dyn Error>> {
    use aws_lc_rs::signature as s;
    let message = b"countersign raw_sign";
    let hash = algorithm.natural_hash();
    let (digest_with, verifier): (_, &'static dyn s::VerificationAlgorithm) = match algorithm {
        KeyAlgorithm::EcP256 => (&aws_lc_rs::digest::SHA256, &s::ECDSA_P256_SHA256_ASN1),
        KeyAlgorithm::EcP384 => (&aws_lc_rs::digest::SHA384, &s::ECDSA_P384_SHA384_ASN1),
        _ => (&aws_lc_rs::digest::SHA256, &s::RSA_PKCS1_2048_8192_SHA256),
    };
    let digest = Digest::new(
        hash,
        aws_lc_rs::digest::digest(digest_with, message).as_ref(),
    )?;
    let data = if algorithm.is_rsa() {
        digest_info(hash, digest.as_bytes())
    } else {
        digest.as_bytes().to_vec()
    };
    let public = s::ParsedPublicKey::new(verifier, spki)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut micros: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let (data, public) = (&data, &public);
                scope.spawn(move || -> Result<Vec<u64>, String> {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        let began = Instant::now();
                        let mechanism = if algorithm.is_rsa() {
                            Mechanism::RsaPkcs
                        } else {
                            Mechanism::Ecdsa
                        };
                        let mut signature = raw
                            .sign(&session, &mechanism, key, data)
                            .map_err(|e| e.to_string())?;
                        if !algorithm.is_rsa() {
                            signature = ecdsa_der(algorithm, &signature).ok_or("bad length")?;
                        }
                        if verify {
                            public
                                .verify_sig(message, &signature)
                                .map_err(|_| "a signature does not verify")?;
                        }
                        took.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                    Ok(took)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)
            .collect::<Result<Vec<_>, String>>()
    })?
    .concat();
    micros.sort_unstable();
    let at = |per_mille: usize| {
        let index = micros.len().saturating_sub(1).saturating_mul(per_mille) / 1000;
        micros.get(index).copied().unwrap_or_default()
    };
    Ok(serde_json::json!({
        "per_second": micros.len() as u64 / seconds.max(1),
        "p50_us": at(500),
        "p99_us": at(990),
    }))
}
