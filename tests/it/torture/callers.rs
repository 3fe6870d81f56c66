//! Clients that never stop asking: alone and in batches, through every node, again under the same
//! Idempotency-Key until each thing has its answer.

use super::chance::Chance;
use super::ledger::{Answer, Head, Ledger, Loss, When, sha256};
use crate::support::load::Signing;
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, job_spec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_client::Web;
use countersign_core::{HashAlgorithm, SignatureScheme};
use countersign_signing_log::{Receipt, VerifierKey};
use countersign_testkit::issuer::TokenSpec;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Callers at once.
const CALLERS: u64 = 10;
/// Longest a client waits: above what the service promises, below what a person would.
const PATIENCE: Duration = Duration::from_secs(12);
/// A token is fetched anew when this much of its life is over.
const YOUNG: Duration = Duration::from_secs(120);
/// Items of a batch at most.
const BATCH: u64 = 8;

/// Requests that are sent once more, to each node, when the storm is over.
const SAMPLE: usize = 100;

/// Something to be signed, in one request.
#[derive(Debug)]
pub struct Wish {
    signer: usize,
    key: String,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    id: String,
    tbs: String,
    attributes: Vec<u8>,
}

/// All of them.
pub struct Crowd<'a> {
    stack: &'a Stack,
    signers: &'a [Signing],
    /// URLs of the nodes, through their wires.
    fronts: Vec<String>,
    seed: u64,
    /// Nothing new is wished for.
    over: AtomicBool,
    /// When whoever still waits gives up.
    end: Mutex<Option<Instant>>,
    /// Wishes that somebody else takes up too, at the same time.
    shared: Mutex<VecDeque<Arc<Wish>>>,
    made: AtomicU64,
    /// Some that were answered.
    kept: Mutex<Vec<Arc<Wish>>>,
    /// Things that were answered for the first time.
    pub progress: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// Ends the crowd, whatever happens to who holds it.
pub struct Leash<'c, 'a>(pub &'c Crowd<'a>);

impl Drop for Leash<'_, '_> {
    fn drop(&mut self) {
        if !self.0.over.load(Ordering::Acquire) {
            self.0.finish(Duration::ZERO);
        }
    }
}

/// One of them.
struct Caller {
    web: Web,
    chance: Chance,
    turn: usize,
    /// The one node it asks, if not all in turn.
    only: Option<usize>,
    tokens: Vec<Option<(String, Instant)>>,
}

impl<'a> Crowd<'a> {
    pub fn new(stack: &'a Stack, signers: &'a [Signing], fronts: Vec<String>, seed: u64) -> Self {
        Self {
            stack,
            signers,
            fronts,
            seed,
            over: AtomicBool::new(false),
            end: Mutex::default(),
            shared: Mutex::default(),
            made: AtomicU64::new(0),
            kept: Mutex::default(),
            progress: AtomicU64::new(0),
            ledger: Mutex::default(),
        }
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Everybody begins; they end after [`Self::finish`].
    pub fn begin<'s>(&'s self, scope: &'s std::thread::Scope<'s, '_>, origins: &'s [String]) {
        for n in 0..CALLERS {
            scope.spawn(move || self.ask_on(n));
        }
        scope.spawn(move || self.watch(origins));
    }

    /// Nothing new; what is still without an answer has so long to get one.
    pub fn finish(&self, within: Duration) {
        *self.end.lock().expect("lock") = Some(Instant::now() + within);
        self.over.store(true, Ordering::Release);
    }

    /// The book, once all threads have ended.
    pub fn close(self) -> Ledger {
        self.ledger
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn gives_up(&self) -> bool {
        self.end
            .lock()
            .expect("lock")
            .is_some_and(|end| Instant::now() >= end)
    }

    fn ask_on(&self, n: u64) {
        let mut caller = Caller::new(self, self.seed ^ (n << 32));
        while !self.over.load(Ordering::Acquire) {
            let taken_up = self.shared.lock().expect("lock").pop_front();
            let wish = taken_up.unwrap_or_else(|| {
                let wish = Arc::new(self.wish(&mut caller.chance));
                if caller.chance.one_in(15) {
                    self.shared
                        .lock()
                        .expect("lock")
                        .push_back(Arc::clone(&wish));
                }
                wish
            });
            caller.pursue(self, &wish);
            let mut kept = self.kept.lock().expect("lock");
            if kept.len() < SAMPLE {
                kept.push(Arc::clone(&wish));
            } else if caller.chance.one_in(8) {
                let place = usize::try_from(caller.chance.below(SAMPLE as u64)).expect("an index");
                kept[place] = Arc::clone(&wish);
            }
            drop(kept);
            // The answer was lost on the client's own side.
            if caller.chance.one_in(12) {
                caller.pursue(self, &wish);
            }
            std::thread::sleep(Duration::from_millis(caller.chance.below(30)));
        }
    }

    fn wish(&self, chance: &mut Chance) -> Wish {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let signer = usize::try_from(chance.below(self.signers.len() as u64)).expect("an index");
        let count = if chance.one_in(3) {
            chance.between(2, BATCH)
        } else {
            1
        };
        let items: Vec<_> = (0..count)
            .map(|n| self.signers[signer].item(n, &format!("wish {number} item {n}")))
            .collect();
        self.ledger().wishes += items.len() as u64;
        Wish {
            signer,
            key: format!("torture-{number}"),
            items,
        }
    }

    /// Asks again for a sample of what was answered, at each node: it must say the same. Gives how
    /// many things were asked for.
    pub fn ask_again(&self) -> usize {
        let mut caller = Caller::new(self, self.seed ^ 0xa9a1);
        let kept = std::mem::take(&mut *self.kept.lock().expect("lock"));
        let mut asked = 0;
        for wish in &kept {
            for node in 0..self.fronts.len() {
                caller.only = Some(node);
                caller.pursue(self, wish);
                asked += wish.items.len();
            }
        }
        asked
    }

    /// Looks at the checkpoints that the nodes show.
    fn watch(&self, origins: &[String]) {
        let mut caller = Caller::new(self, self.seed ^ 0x57a7);
        let mut round = 0;
        while !self.over.load(Ordering::Acquire) {
            round += 1;
            for origin in origins {
                let node = round % self.fronts.len();
                if let Some(head) = caller.look(self, node, origin) {
                    let mut ledger = self.ledger();
                    ledger.looks += 1;
                    ledger.heads.insert(head);
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Signing {
    fn item(&self, n: u64, content: &str) -> Item {
        let file = countersign_content::digest_of(HashAlgorithm::Sha256, content.as_bytes());
        let attributes =
            countersign_content::cms::signed_attributes(&file, None, Some(&self.certificate), None)
                .expect("attributes");
        Item {
            id: format!("file-{n}"),
            tbs: format!("sha-256:{}", sha256(&attributes)),
            attributes,
        }
    }

    /// Checks one result as its receiver would. `Err`: what is wrong with it.
    fn judged(
        &self,
        item: &Item,
        result: &Value,
        whole: &Value,
        (node, when): (usize, When),
    ) -> Result<Answer, String> {
        let get = |name: &str| {
            let text = result[name].as_str();
            text.ok_or_else(|| format!("no {name} in {result}"))
        };
        let signature = STANDARD
            .decode(get("signature")?)
            .map_err(|e| e.to_string())?;
        let scheme = get("scheme")?.parse::<SignatureScheme>();
        let scheme = scheme.map_err(|e| e.to_string())?;
        self.key
            .verify_message(scheme, &item.attributes, &signature)
            .map_err(|e| format!("the signature: {e}"))?;
        let mut by = whole["signed_by"].as_array().into_iter().flatten();
        let by = by.find(|by| by["certificate_sha256"] == result["certificate_sha256"]);
        let log = &by.ok_or("by nobody")?["log"];
        let origin = log["origin"].as_str().ok_or("no origin")?;
        let vkey = VerifierKey::parse(log["vkey"].as_str().unwrap_or_default());
        let text = get("receipt")?;
        let receipt = Receipt::parse(text).map_err(|e| e.to_string())?;
        receipt
            .verify(&[vkey.map_err(|e| e.to_string())?])
            .map_err(|e| format!("the receipt: {e}"))?;
        Ok(Answer {
            tbs: item.tbs.clone(),
            signature_sha256: sha256(&signature),
            origin: origin.to_owned(),
            index: receipt.index,
            receipt: text.to_owned(),
            node,
            when,
        })
    }
}

impl Caller {
    fn new(crowd: &Crowd<'_>, seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        Self {
            web: Web::new(Some(&crowd.stack.ca_file()), PATIENCE).expect("a web client"),
            turn: usize::try_from(chance.below(1 << 16)).expect("a number"),
            only: None,
            chance,
            tokens: vec![None; crowd.signers.len() + 1],
        }
    }

    /// Until each item has an answer.
    fn pursue(&mut self, crowd: &Crowd<'_>, wish: &Wish) {
        let mut missing: Vec<usize> = (0..wish.items.len()).collect();
        let mut first = true;
        while !missing.is_empty() {
            if crowd.gives_up() {
                let what = format!(
                    "{} items of {}, signer {}",
                    missing.len(),
                    wish.key,
                    wish.signer
                );
                crowd.ledger().lose(Loss::Unanswered, what);
                return;
            }
            // A retry is of all, or of what has no answer yet: both must work.
            let whole = self.chance.one_in(3);
            let sent = if whole {
                (0..wish.items.len()).collect()
            } else {
                missing.clone()
            };
            self.turn += 1;
            let node = self.only.unwrap_or(self.turn % crowd.fronts.len());
            {
                let mut ledger = crowd.ledger();
                ledger.requests += 1;
                ledger.retries += u64::from(!first);
            }
            first = false;
            let asked = Instant::now();
            match self.request(crowd, node, wish, &sent) {
                Some(answer) => {
                    // Before it is judged, which takes its time.
                    let answered = Instant::now();
                    let when = When { asked, answered };
                    self.read(crowd, (node, when), wish, &answer, &mut missing);
                }
                None => self.pause(),
            }
        }
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(self.chance.between(30, 250)));
    }

    /// `None`: there was no answer.
    fn request(
        &mut self,
        crowd: &Crowd<'_>,
        node: usize,
        wish: &Wish,
        which: &[usize],
    ) -> Option<(u16, Value)> {
        let signer = &crowd.signers[wish.signer];
        let token = self.token(crowd, node, wish.signer)?;
        let items: Vec<_> = which.iter().map(|i| wish.items[*i].body()).collect();
        let body = json!({ "items": items }).to_string();
        let url = format!(
            "{}/v1/tenants/{}/signers/{}/signatures",
            crowd.fronts[node], signer.tenant, signer.signer
        );
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", &wish.key),
        ];
        match self
            .web
            .send("POST", &url, &headers, Some(body.as_bytes()), 1 << 20)
        {
            Ok(answer) => match serde_json::from_slice(&answer.body) {
                Ok(json) => Some((answer.status, json)),
                Err(e) => {
                    let what = format!("{} that is not JSON: {e}", answer.status);
                    crowd.ledger().lose(Loss::WrongAnswer, what);
                    None
                }
            },
            Err(_) => {
                crowd.ledger().refused("(connection)");
                None
            }
        }
    }

    fn read(
        &mut self,
        crowd: &Crowd<'_>,
        by: (usize, When),
        wish: &Wish,
        (status, body): &(u16, Value),
        missing: &mut Vec<usize>,
    ) {
        if *status != 200 {
            if *status == 401 {
                self.tokens.fill(None);
            }
            return self.refused(crowd, *status, body, wish, missing);
        }
        let mut problem = None;
        for result in body["results"].as_array().into_iter().flatten() {
            let at = wish
                .items
                .iter()
                .position(|i| result["id"] == i.id.as_str());
            let Some(at) = at else {
                crowd
                    .ledger()
                    .lose(Loss::WrongAnswer, format!("not asked for: {result}"));
                continue;
            };
            if !result["problem"].is_null() {
                problem = Some(result["problem"].clone());
                continue;
            }
            match crowd.signers[wish.signer].judged(&wish.items[at], result, body, by) {
                Ok(answer) => {
                    crowd.ledger().answered(answer);
                    if let Some(n) = missing.iter().position(|m| *m == at) {
                        missing.swap_remove(n);
                        crowd.progress.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(e) => {
                    crowd.ledger().lose(Loss::BadSignature, e);
                    missing.retain(|m| *m != at);
                }
            }
        }
        if let Some(problem) = problem {
            let status = problem["status"].as_u64().unwrap_or(0);
            let status = u16::try_from(status).unwrap_or(0);
            self.refused(crowd, status, &problem, wish, missing);
        }
    }

    /// Nothing but "later": each of these promises that asking again is right.
    fn refused(
        &mut self,
        crowd: &Crowd<'_>,
        status: u16,
        problem: &Value,
        wish: &Wish,
        missing: &mut Vec<usize>,
    ) {
        let code = problem["code"].as_str().unwrap_or("(none)");
        // What was in a worker's hands when two of them died is held by the node that saw it,
        // until it starts anew: an operator's business, and said so.
        let detail = problem["detail"].as_str().unwrap_or_default();
        let held = code == "token-refuses" && detail.contains("quarantine");
        crowd
            .ledger()
            .refused(if held { "quarantined" } else { code });
        if problem["retryable"] == true || held || status == 401 {
            return self.pause();
        }
        let what = format!("{} to {}: {status} {problem}", wish.key, wish.signer);
        crowd.ledger().lose(Loss::WrongAnswer, what);
        missing.clear();
    }

    /// A service token of a job; fetched anew in good time.
    fn token(&mut self, crowd: &Crowd<'_>, node: usize, signer: usize) -> Option<String> {
        if let Some((token, since)) = &self.tokens[signer]
            && since.elapsed() < YOUNG
        {
            return Some(token.clone());
        }
        let id_token = crowd.stack.platform.mint(&job_spec(REPOSITORY)).ok()?;
        let tenant = &crowd.signers[signer].tenant;
        self.exchanged(crowd, node, signer, tenant, &id_token)
    }

    fn exchanged(
        &mut self,
        crowd: &Crowd<'_>,
        node: usize,
        slot: usize,
        tenant: &str,
        id_token: &str,
    ) -> Option<String> {
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={id_token}\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&tenant={tenant}"
        );
        let header = [("content-type", "application/x-www-form-urlencoded")];
        let url = format!("{}/v1/token", crowd.fronts[node]);
        let answer = self
            .web
            .send("POST", &url, &header, Some(form.as_bytes()), 1 << 20);
        let body: Value = match &answer {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        if let Some(token) = body["access_token"].as_str() {
            self.tokens[slot] = Some((token.to_owned(), Instant::now()));
            return Some(token.to_owned());
        }
        match answer {
            Ok(answer) => {
                let code = body["code"].as_str().unwrap_or("(none)");
                let mut ledger = crowd.ledger();
                ledger.refused(&format!("token: {code}"));
                if body["retryable"] != true {
                    ledger.lose(
                        Loss::WrongAnswer,
                        format!("no token: {} {body}", answer.status),
                    );
                }
            }
            Err(_) => crowd.ledger().refused("(connection)"),
        }
        None
    }

    /// The checkpoint that a node shows of a log.
    fn look(&mut self, crowd: &Crowd<'_>, node: usize, origin: &str) -> Option<Head> {
        let slot = crowd.signers.len();
        let tenant = &crowd.signers[0].tenant;
        let token = match &self.tokens[slot] {
            Some((token, since)) if since.elapsed() < YOUNG => token.clone(),
            _ => {
                let admin = TokenSpec::new(&format!("{tenant}-admin"), PEOPLE_AUDIENCE).mfa();
                let id_token = crowd.stack.people.mint(&admin).ok()?;
                self.exchanged(crowd, node, slot, tenant, &id_token)?
            }
        };
        let log = origin.rsplit('/').next()?;
        let url = format!("{}/log/{log}/checkpoint", crowd.fronts[node]);
        let bearer = format!("Bearer {token}");
        let answer = self
            .web
            .send("GET", &url, &[("authorization", &bearer)], None, 1 << 16)
            .ok()?;
        if answer.status != 200 {
            return None;
        }
        let note = String::from_utf8(answer.body).ok()?;
        let head = Head::of_note(&note);
        if head.is_none() {
            crowd
                .ledger()
                .lose(Loss::WrongAnswer, format!("a checkpoint: {note}"));
        }
        head
    }
}

impl Item {
    fn body(&self) -> Value {
        json!({
            "id": self.id,
            "content": {"type": "cms", "signed_attributes": STANDARD.encode(&self.attributes)},
            "digest_algorithm": "sha-256",
        })
    }
}
