//! Invariant 4, no neighbour: two tenants that differ in nothing but their ids, everything asked
//! crosswise. What is another's is the same as what is not there.

use crate::databases::{Empty, Postgres, Sqlite};
use crate::model::*;
use countersign_core::KeyState;
use countersign_core::ports::rows::{ClaimKey, TenantPolicy};
use countersign_core::ports::store::*;
use countersign_core::{LogId, NodeId, TenantId};
use proptest::prelude::*;

/// What of the two tenants is made at random.
#[derive(Debug, Clone)]
struct Case {
    leaves: [usize; 2],
    claims: [Vec<String>; 2],
    from: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let claims = || prop::collection::btree_set("[a-d]{1,2}", 0..6);
    (
        prop::array::uniform2(1..600_usize),
        (claims(), claims()),
        0..600_u64,
    )
        .prop_map(|(leaves, (a, b), from)| Case {
            leaves,
            claims: [a.into_iter().collect(), b.into_iter().collect()],
            from,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nothing_of_a_neighbour_is_ever_seen_on_sqlite(case in case()) {
        run(two_tenants::<Sqlite>(case));
    }

    #[test]
    fn nothing_of_a_neighbour_is_ever_seen_on_postgres(case in case()) {
        run(two_tenants::<Postgres>(case));
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

async fn two_tenants<E: Empty>(case: Case) {
    let db = E::empty().await;
    let store = &**db.store();
    let node = NodeId::new();
    let both = [Everything::named("acme"), Everything::named("bolt")];
    for ((it, leaves), claims) in both.iter().zip(case.leaves).zip(&case.claims) {
        let (_, mut log) = it.create(store, node).await;
        let first = log.size();
        let claims = claims.iter().enumerate();
        let flush = Commit {
            writes: vec![log.append(leaves)],
            claims: claims
                .map(|(i, key)| (i, ClaimWrite::First(it.claim(key, first))))
                .collect(),
            opens: vec![it.open(dead(), first)],
            ..Commit::default()
        };
        commit(store, node, flush).await.unwrap();
        let evidence = Effect::PutEvidence(Box::new(it.evidence(&["mine"])));
        let seen = Effect::SeeDevice(crate::conformance_devices::seen(it, 9, NOW));
        commit(store, node, effects([evidence, seen]))
            .await
            .unwrap();
    }
    let before = picture(store, &both).await;
    for (owner, asker) in [(0, 1), (1, 0)] {
        let mine: ClaimKeys<'_> = (&case.claims[asker], &case.claims[owner]);
        reads_nothing(store, &both[owner], &both[asker], case.from, mine).await;
        writes_nothing(store, node, &both[owner], &both[asker]).await;
    }
    // A tenant that does not exist sees as much of either as they of each other.
    let nobody = Everything::named("nobody");
    for owner in &both {
        reads_nothing(store, owner, &nobody, case.from, (&[], &[])).await;
    }
    assert_eq!(picture(store, &both).await, before);
}

/// Claim keys of the asker and of the owner.
type ClaimKeys<'a> = (&'a [String], &'a [String]);

/// Everything that can be asked with the asker's id and the owner's names.
async fn reads_nothing(
    s: &impl Store,
    owner: &Everything,
    asker: &Everything,
    from: u64,
    (asker_claims, owner_claims): ClaimKeys<'_>,
) {
    let me = asker.id();
    let mine = |tenant: TenantId| assert_eq!(tenant, me);
    if let Some(row) = s.tenant(me).await.unwrap() {
        mine(row.id);
    }
    let label = &owner.signer.label;
    // Names both may have: only one's own row comes.
    let issuer = s.issuer(me, &owner.issuer.issuer).await.unwrap();
    issuer.iter().for_each(|r| mine(r.tenant));
    s.issuers(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.members(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.signers(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.signer(me, label)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.keys(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.keys_of(me, label)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.grants(me, label)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.all_grants(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    s.heads(me)
        .await
        .unwrap()
        .iter()
        .for_each(|r| mine(r.tenant));
    let people = s.roles(me, &owner.member.issuer, "eve").await.unwrap();
    assert!(people.is_empty());
    // Ids of the owner's: nothing comes.
    let key = owner.key.id;
    assert_eq!(s.key(me, key).await.unwrap(), None);
    assert_eq!(s.certificate(me, key).await.unwrap(), None);
    assert_eq!(s.evidence(me, key).await.unwrap(), None);
    assert_eq!(s.devices_of(me, key).await.unwrap(), []);
    assert_eq!(s.order(me, owner.order.id).await.unwrap(), None);
    assert_eq!(s.orders_of(me, key).await.unwrap(), []);
    for log in [LogId::from(owner.id()), LogId::from(key)] {
        assert_eq!(s.head(me, log).await.unwrap(), None);
        for from in [0, from] {
            assert!(s.leaves(me, log, from, 256).await.unwrap().is_empty());
            assert!(s.details(me, log, from, 999).await.unwrap().is_empty());
            for level in 0..=7 {
                let hashes = s.hashes(me, log, level, from, 999).await.unwrap();
                assert!(hashes.is_empty());
            }
        }
    }
    for claim in owner_claims {
        let key = ClaimKey {
            tenant: me,
            ..owner.claim(claim, 1).key
        };
        let found = s.claim(&key).await.unwrap();
        assert_eq!(found.is_some(), asker_claims.contains(claim));
        found.iter().for_each(|c| mine(c.key.tenant));
    }
}

/// Every write that names the owner's things under the asker's id is refused.
async fn writes_nothing(s: &impl Store, node: NodeId, owner: &Everything, asker: &Everything) {
    let me = asker.id();
    let key = owner.key.id;
    for log in [LogId::from(owner.id()), LogId::from(key)] {
        let foreign = Wanted {
            tenant: me,
            log,
            known: None,
        };
        let flush = s.flush(node, vec![me], vec![foreign]).await;
        assert!(flush.unwrap().moved().is_empty());
        let head = s.head(owner.id(), log).await.unwrap().unwrap();
        let mut theirs = Log::at(&head);
        theirs.tenant = me;
        let outcome = Commit {
            closes: vec![(log, 1)],
            ..writes([theirs.append(1)])
        };
        assert_eq!(
            commit(s, node, outcome).await,
            Err(CommitError::HeadMoved { log })
        );
        // Nor does an id of theirs make a log of mine.
        let mut begun = Log::of_tenant(me);
        begun.id = log;
        assert_eq!(
            commit(s, node, writes([begun.append(1)])).await,
            Err(CommitError::HeadMoved { log })
        );
    }
    let mut order = owner.order.clone();
    order.tenant = me;
    let mut own_key_order = order.clone();
    own_key_order.key = asker.key.id;
    let mut certificate = owner.certificate.clone();
    certificate.tenant = me;
    let mut evidence = owner.evidence(&["theirs"]);
    evidence.tenant = me;
    let mut seen = crate::conformance_devices::seen(owner, 9, NOW);
    seen.tenant = me;
    let mut key_row = owner.key.clone();
    key_row.tenant = me;
    let mut grant = owner.grant.clone();
    grant.tenant = me;
    for effect in [
        Effect::SetKeyState {
            tenant: me,
            key,
            from: KeyState::Generated,
            to: KeyState::Compromised,
        },
        Effect::SetAppraisal(me, key, "{}".to_owned()),
        Effect::PutEvidence(Box::new(evidence)),
        Effect::SeeDevice(seen),
        Effect::InstallCertificate(certificate),
        Effect::PutOrder(Box::new(order)),
        Effect::PutOrder(Box::new(own_key_order)),
        create_key(key_row),
        Effect::PutGrant(grant),
        Effect::RemoveGrant(me, owner.grant.id),
        Effect::SetPolicy(TenantId::new(), TenantPolicy::default()),
    ] {
        let what = format!("{effect:?}");
        let refused = commit(s, node, effects([effect])).await;
        assert!(
            matches!(refused, Err(CommitError::Conflict { item: 0, .. })),
            "{what}: {refused:?}"
        );
    }
}

/// All that both have.
async fn picture(s: &impl Store, both: &[Everything]) -> String {
    let mut all = String::new();
    for it in both {
        let id = it.id();
        let rows = (
            s.tenant(id).await.unwrap(),
            s.keys(id).await.unwrap(),
            s.orders_of(id, it.key.id).await.unwrap(),
            s.certificate(id, it.key.id).await.unwrap(),
            s.evidence(id, it.key.id).await.unwrap(),
            s.all_grants(id).await.unwrap(),
            s.members(id).await.unwrap(),
            s.issuers(id).await.unwrap(),
            check_logs(s, id).await,
        );
        all.push_str(&format!("{rows:?}"));
    }
    let open = s.open_authorisations(99).await.unwrap();
    format!("{all}{open:?}")
}
