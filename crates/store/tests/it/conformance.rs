//! What every implementation of the storage ports keeps. Written against the traits alone; a
//! database joins by an [`Empty`].

use crate::conformance_devices::*;
use crate::conformance_status::*;
use crate::databases::{Empty, on_both};
use crate::model::*;
use countersign_core::ports::rows::*;
use countersign_core::ports::store::*;
use countersign_core::{GrantId, KeyState, Micros, NodeId, TenantId};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

on_both! {
    everything_written_is_read_back_after_reopening
    lists_are_in_the_order_promised
    a_log_grows_and_is_created_once
    a_fork_is_refused
    an_origin_is_never_reused
    an_epoch_never_falls
    a_flush_tells_what_others_wrote
    a_buried_node_writes_nothing
    a_moved_guard_voids_the_decision
    effects_move_the_version_on
    no_key_is_one_too_many
    claims_are_taken_once
    claims_are_tried_again_and_settled
    effects_conflict_by_name
    a_failing_item_leaves_nothing
    a_token_is_new_exactly_once
    open_authorisations_are_the_deads_and_end_with_their_outcome
    a_commit_that_contradicts_itself_is_refused
    what_expired_is_forgotten_and_no_more
    the_operator_is_registered_once
    service_keys_are_added_by_one_node
    a_flush_of_many_is_one_commit
    a_status_is_followed_set_and_read_back
    a_list_is_claimed_once_and_never_goes_back
    certificates_are_walked_in_the_order_of_their_ends
    submitted_orders_wait_for_one_node
    a_device_is_shared_once_a_second_tenant_has_it
    a_batch_is_for_the_operator_alone
    a_tenant_with_many_keys_in_a_device_hides_no_other
    a_device_of_two_tenants_at_one_moment_is_shared
    shared_devices_are_walked_in_order
    evidence_is_kept_to_the_byte_and_replaced
}

async fn evidence_is_kept_to_the_byte_and_replaced<E: Empty>() {
    let mut db = E::empty().await;
    let node = NodeId::new();
    let [acme, bolt] = ["acme", "bolt"].map(Everything::named);
    for it in [&acme, &bolt] {
        it.create(&**db.store(), node).await;
    }
    let first = acme.evidence(&["one", "two", "one"]);
    let second = EvidenceRow {
        nonce: Some(vec![0, 7]),
        result: "{}".to_owned(),
        appraised: Micros(NOW.0 + 1),
        ..acme.evidence(&["three"])
    };
    for row in [first, second] {
        let of = |it: &Everything| (it.id(), it.key.id);
        let effect = Effect::PutEvidence(Box::new(row.clone()));
        commit(&**db.store(), node, effects([effect]))
            .await
            .unwrap();
        db = db.reopen().await;
        let s = db.store();
        let (tenant, key) = of(&acme);
        assert_eq!(s.evidence(tenant, key).await.unwrap(), Some(row));
        for (tenant, key) in [of(&bolt), (bolt.id(), key), (tenant, bolt.key.id)] {
            assert_eq!(s.evidence(tenant, key).await.unwrap(), None);
        }
    }
}

async fn everything_written_is_read_back_after_reopening<E: Empty>() {
    let mut db = E::empty().await;
    let it = Everything::named("acme");
    let node = NodeId::new();
    let (tenant_log, _) = it.create(&**db.store(), node).await;
    for round in 0..2 {
        let s = db.store();
        let expected = TenantRow {
            version: Everything::VERSION,
            token: Some(token_facts()),
            ..it.tenant.clone()
        };
        assert_eq!(s.tenant(it.id()).await.unwrap(), Some(expected.clone()));
        assert_eq!(
            s.tenant_by_name(&it.tenant.name).await.unwrap(),
            Some(expected)
        );
        assert_eq!(
            s.issuer(it.id(), &it.issuer.issuer).await.unwrap(),
            Some(it.issuer.clone())
        );
        assert_eq!(s.issuers(it.id()).await.unwrap(), from_ref(&it.issuer));
        let roles = s
            .roles(it.id(), &it.member.issuer, &it.member.subject)
            .await;
        assert_eq!(roles.unwrap(), [Role::Admin]);
        assert_eq!(s.members(it.id()).await.unwrap(), from_ref(&it.member));
        let label = &it.signer.label;
        assert_eq!(
            s.signer(it.id(), label).await.unwrap(),
            Some(it.signer.clone())
        );
        assert_eq!(s.signers(it.id()).await.unwrap(), from_ref(&it.signer));
        assert_eq!(
            s.key(it.id(), it.key.id).await.unwrap(),
            Some(it.key.clone())
        );
        assert_eq!(s.keys_of(it.id(), label).await.unwrap(), from_ref(&it.key));
        assert_eq!(s.keys(it.id()).await.unwrap(), from_ref(&it.key));
        assert_eq!(
            s.certificate(it.id(), it.key.id).await.unwrap(),
            Some(it.certificate.clone())
        );
        assert_eq!(
            s.order(it.id(), it.order.id).await.unwrap(),
            Some(it.order.clone())
        );
        assert_eq!(
            s.orders_of(it.id(), it.key.id).await.unwrap(),
            from_ref(&it.order)
        );
        assert_eq!(s.grants(it.id(), label).await.unwrap(), from_ref(&it.grant));
        assert_eq!(s.all_grants(it.id()).await.unwrap(), from_ref(&it.grant));
        let head = s.head(it.id(), it.id().into()).await.unwrap().unwrap();
        assert_eq!(head.kind, LogKind::Tenant);
        assert_eq!((head.size, head.epoch), (5, 1));
        assert_eq!(head.last_time, NOW);
        assert_eq!(head.frontier, tenant_log.frontier.to_bytes());
        let details = s.details(it.id(), it.id().into(), 3, 9).await.unwrap();
        assert_eq!(
            details,
            [
                (3, "{\"index\":3}".to_owned()),
                (4, "{\"index\":4}".to_owned())
            ]
        );
        assert_eq!(check_logs(&**s, it.id()).await.len(), 2);
        s.probe().await.unwrap();
        if round == 0 {
            db = db.reopen().await;
        }
    }
}

async fn lists_are_in_the_order_promised<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let operator = TenantRow {
        id: OPERATOR_REALM,
        name: OPERATOR_REALM_NAME.parse().unwrap(),
        ..Everything::named("x").tenant
    };
    commit(s, node, effects([Effect::CreateTenant(operator)]))
        .await
        .unwrap();
    for name in ["pear", "apple", "quince", "orange"] {
        Everything::named(name).create(s, node).await;
    }
    let names = async |after: Option<&str>, limit| -> Vec<String> {
        let after = after.map(|a| a.parse().unwrap());
        let rows = s.tenants(after.as_ref(), limit).await.unwrap();
        rows.into_iter().map(|t| t.name.into()).collect()
    };
    assert_eq!(names(None, 9).await, ["apple", "orange", "pear", "quince"]);
    assert_eq!(names(None, 2).await, ["apple", "orange"]);
    assert_eq!(names(Some("orange"), 2).await, ["pear", "quince"]);
    assert_eq!(names(Some("quince"), 2).await, [""; 0]);

    let it = Everything::named("acme");
    it.create(s, node).await;
    let mut newer = it.key.clone();
    newer.id = countersign_core::KeyId::new();
    newer.created = Micros(NOW.0 + 1);
    let mut order = it.order.clone();
    order.id = countersign_core::OrderId::new();
    order.created = Micros(NOW.0 + 1);
    // Renewal: another certificate, installed in the same microsecond, is the one used.
    let mut renewed = it.certificate.clone();
    renewed.sha256 = [8; 32];
    let more = effects([
        create_key(newer.clone()),
        Effect::PutOrder(Box::new(order.clone())),
        Effect::InstallCertificate(renewed.clone()),
    ]);
    commit(s, node, more).await.unwrap();
    assert_eq!(
        s.keys(it.id()).await.unwrap(),
        [newer.clone(), it.key.clone()]
    );
    assert_eq!(
        s.keys_of(it.id(), &it.signer.label).await.unwrap(),
        [newer, it.key.clone()]
    );
    assert_eq!(
        s.orders_of(it.id(), it.key.id).await.unwrap(),
        [order, it.order.clone()]
    );
    assert_eq!(
        s.certificate(it.id(), it.key.id).await.unwrap(),
        Some(renewed)
    );
}

async fn a_log_grows_and_is_created_once<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (mut log, _) = it.create(s, node).await;
    // Over the border of a tile, at once and one by one.
    for count in [1, 249, 1, 1, 300, 256, 700] {
        commit(s, node, writes([log.append(count)])).await.unwrap();
    }
    check_logs(s, it.id()).await;
    assert_eq!(s.leaves(it.id(), log.id, 0, 999).await.unwrap().len(), 256);
    let again = Log::of_tenant(it.id()).append(1);
    assert_eq!(
        commit(s, node, writes([again])).await,
        Err(CommitError::HeadMoved { log: log.id })
    );
    // A log of a tenant that does not exist is not created either.
    let nobody = TenantId::new();
    assert_eq!(
        commit(s, node, writes([Log::of_tenant(nobody).append(1)])).await,
        Err(CommitError::HeadMoved { log: nobody.into() })
    );
    assert_eq!(s.head(nobody, nobody.into()).await.unwrap(), None);
    // A checkpoint may be signed anew without a leaf.
    let mut resigned = log.append(0);
    resigned.checkpoint.push_str("second line\n");
    commit(s, node, writes([resigned])).await.unwrap();
    let head = s.head(it.id(), log.id).await.unwrap().unwrap();
    assert!(head.checkpoint.ends_with("second line\n"));
}

async fn a_fork_is_refused<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (mut log, _) = it.create(s, node).await;
    let mut fork = log.clone();
    commit(s, node, writes([log.append(3)])).await.unwrap();
    for count in [1, 3, 4] {
        let forked = fork.clone().append(count);
        assert_eq!(
            commit(s, node, writes([forked])).await,
            Err(CommitError::HeadMoved { log: log.id })
        );
    }
    fork = log.clone();
    // Many at once on one head: exactly one wins.
    let racers = (1..=8).map(|count| {
        let s = db.store().clone();
        let forked = fork.clone().append(count);
        tokio::spawn(async move { commit(&*s, node, writes([forked])).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(()) => won += 1,
            Err(e) => assert_eq!(e, CommitError::HeadMoved { log: log.id }),
        }
    }
    assert_eq!(won, 1);
    check_logs(s, it.id()).await;
}

async fn an_origin_is_never_reused<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (log, _) = it.create(s, node).await;
    let mut other = Log::of_key(it.id(), countersign_core::KeyId::new());
    let mut write = other.append(1);
    write.origin = s.head(it.id(), log.id).await.unwrap().unwrap().origin;
    assert_eq!(
        commit(s, node, writes([write])).await,
        Err(CommitError::HeadMoved { log: other.id })
    );
    check_logs(s, it.id()).await;
}

async fn an_epoch_never_falls<E: Empty>() {
    let db = E::empty().await;
    let (s, node, other) = (&**db.store(), NodeId::new(), NodeId::new());
    let it = Everything::named("acme");
    let (mut log, mut key_log) = it.create(s, node).await;
    log.epoch = 2;
    commit(s, other, writes([log.append(1)])).await.unwrap();
    let head = s.head(it.id(), log.id).await.unwrap().unwrap();
    assert_eq!((head.epoch, head.writer), (2, other));
    // One head that cannot move, one that can: neither is written, and the error names the first.
    let mut fallen = log.clone();
    fallen.epoch = 1;
    let both = writes([key_log.clone().append(1), fallen.append(1)]);
    assert!(commit(s, node, both).await.is_err());
    commit(s, node, writes([key_log.append(1)])).await.unwrap();
    let heads = check_logs(s, it.id()).await;
    let mut sizes: Vec<_> = heads.iter().map(|h| (h.size, h.epoch)).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [(2, 1), (6, 2)]);
}

async fn a_flush_tells_what_others_wrote<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (mut log, key_log) = it.create(s, node).await;
    let wanted = |log: &Log, known| Wanted {
        tenant: it.id(),
        log: log.id,
        known,
    };
    let size = s.head(it.id(), log.id).await.unwrap().unwrap().size;
    commit(s, node, writes([log.append(3)])).await.unwrap();
    let now = s.head(it.id(), log.id).await.unwrap().unwrap();
    // Not known at all: the head alone. A log that is nowhere is absent, and another tenant's is.
    let nowhere = Log::of_key(it.id(), countersign_core::KeyId::new());
    let foreign = Wanted {
        tenant: TenantId::new(),
        log: key_log.id,
        known: None,
    };
    let all = vec![wanted(&log, None), wanted(&nowhere, None), foreign];
    let mut flush = s.flush(node, vec![it.id()], all).await.unwrap();
    let moved = flush.moved();
    assert_eq!(moved.len(), 1);
    assert_eq!((&moved[0].head, moved[0].leaf_hashes.len()), (&now, 0));
    assert!(flush.moved().is_empty());
    drop(flush);
    if s.shared() {
        // Known, and behind: the head with what lies between.
        let behind = vec![wanted(&log, Some(size))];
        let mut flush = s.flush(node, vec![it.id()], behind).await.unwrap();
        let moved = flush.moved();
        drop(flush);
        let between = s.hashes(it.id(), log.id, 0, size, 3).await.unwrap();
        assert_eq!((&moved[0].head, &moved[0].leaf_hashes), (&now, &between));
    }
    // Known and right: nothing to tell.
    let right = vec![wanted(&log, Some(now.size))];
    let mut flush = s.flush(node, vec![it.id()], right).await.unwrap();
    assert!(flush.moved().is_empty());
    drop(flush);
    // None of these flushes wrote anything.
    assert_eq!(s.head(it.id(), log.id).await.unwrap().unwrap(), now);
}

async fn a_buried_node_writes_nothing<E: Empty>() {
    let db = E::empty().await;
    let (s, node, other) = (&**db.store(), NodeId::new(), NodeId::new());
    let it = Everything::named("acme");
    let joined = s.join(other, "stalled", Duration::ZERO).await.unwrap();
    let (mut log, _) = it.create(s, node).await;
    let row = |rows: Vec<NodeRow>, of| rows.into_iter().find(|r| r.node == of);
    let known = row(s.nodes().await.unwrap(), other).unwrap();
    assert_eq!((known.name.as_str(), known.ended), ("stalled", None));
    assert!(known.joined >= joined.minus(Duration::from_secs(1)) && known.until <= known.joined);
    commit(s, other, writes([log.append(1)])).await.unwrap();
    // Its lease is over: whoever looks first buries it, once. Nobody buries himself.
    assert!(s.renew(node, LEASE).await.unwrap() >= joined);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let buried = s.bury(node).await.unwrap();
    assert_eq!(buried.iter().map(|b| b.node).collect::<Vec<_>>(), [other]);
    assert!(s.bury(node).await.unwrap().is_empty());
    assert!(
        row(s.nodes().await.unwrap(), other)
            .unwrap()
            .ended
            .is_some()
    );
    let size = s.head(it.id(), log.id).await.unwrap().unwrap().size;
    let late = commit(s, other, writes([log.clone().append(1)])).await;
    assert_eq!(late, Err(CommitError::Buried));
    assert_eq!(s.renew(other, LEASE).await, Err(CommitError::Buried));
    assert_eq!(s.head(it.id(), log.id).await.unwrap().unwrap().size, size);
    // One that never joined is not alive either; one that leaves is buried by its own hand.
    let nobody = s.flush(NodeId::new(), vec![it.id()], Vec::new()).await;
    let never = match nobody {
        Ok(flush) => flush.commit(NOW, writes([log.clone().append(1)])).await,
        Err(e) => Err(e),
    };
    assert_eq!(never, Err(CommitError::Buried));
    commit(s, node, writes([log.append(1)])).await.unwrap();
    s.leave(node).await.unwrap();
    let gone = commit(s, node, writes([log.append(1)])).await;
    assert_eq!(gone, Err(CommitError::Buried));
    check_logs(s, it.id()).await;
}

async fn a_moved_guard_voids_the_decision<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let (it, that) = (Everything::named("acme"), Everything::named("other"));
    let (_, mut key_log) = it.create(s, node).await;
    that.create(s, node).await;
    let guard = |of: &Everything, version| Guard {
        tenant: of.id(),
        version,
    };
    let seen = Everything::VERSION;
    let mut sign = |guards: Vec<Guard>| Commit {
        guards,
        ..writes([key_log.append(1)])
    };
    let good = vec![guard(&it, seen), guard(&that, seen), guard(&it, seen)];
    commit(s, node, sign(good)).await.unwrap();

    // Suspended: when it returns, no authorisation decided before can be written.
    let suspend = effects([Effect::SetKeyState {
        tenant: it.id(),
        key: it.key.id,
        from: KeyState::Generated,
        to: KeyState::Suspended,
    }]);
    commit(s, node, suspend).await.unwrap();
    let moved = guard(&it, seen);
    for guards in [vec![guard(&that, seen), moved], vec![moved]] {
        assert_eq!(
            commit(s, node, sign(guards)).await,
            Err(CommitError::Guard(moved))
        );
    }
    let nobody = Guard {
        tenant: TenantId::new(),
        version: 0,
    };
    assert_eq!(
        commit(s, node, sign(vec![nobody])).await,
        Err(CommitError::Guard(nobody))
    );
    check_logs(s, it.id()).await;
}

async fn effects_move_the_version_on<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(s, node).await;
    let id = it.id();
    let policy = TenantPolicy {
        allow_software: true,
        require_mfa: false,
        evidence: vec!["sign-only".to_owned(), "vendor=Yubico".to_owned()],
    };
    let mut issuer = it.issuer.clone();
    issuer.kind = IssuerKind::Pipelines;
    issuer.mfa_acr = vec!["silver".to_owned()];
    let mut order = it.order.clone();
    order.state = OrderState::Refused;
    order.problem = Some("naked".to_owned());
    let steps = [
        (1, Effect::SetPolicy(id, policy.clone())),
        (1, Effect::SetToken(id, token_facts())),
        (1, Effect::PutIssuer(issuer.clone())),
        (1, Effect::SetAppraisal(id, it.key.id, "{}".to_owned())),
        (1, Effect::PutEvidence(Box::new(it.evidence(&["one"])))),
        (0, Effect::PutOrder(Box::new(order.clone()))),
        (1, Effect::RemoveMember(it.member.clone())),
        (1, Effect::RemoveGrant(id, it.grant.id)),
    ];
    let mut version = Everything::VERSION;
    for (more, effect) in steps {
        version += more;
        let what = format!("{effect:?}");
        commit(s, node, effects([effect])).await.unwrap();
        let row = s.tenant(id).await.unwrap().unwrap();
        assert_eq!(row.version, version, "{what}");
    }
    assert_eq!(s.tenant(id).await.unwrap().unwrap().policy, policy);
    assert_eq!(s.issuers(id).await.unwrap(), [issuer]);
    assert_eq!(s.order(id, order.id).await.unwrap(), Some(order));
    let key = s.key(id, it.key.id).await.unwrap().unwrap();
    assert_eq!(key.appraisal.as_deref(), Some("{}"));
    assert!(s.members(id).await.unwrap().is_empty());
    assert!(s.all_grants(id).await.unwrap().is_empty());
}

/// Two nodes, each asked for many keys at one moment, with room for three beside the first.
async fn no_key_is_one_too_many<E: Empty>() {
    let db = E::empty().await;
    let s = db.store();
    let nodes = [NodeId::new(), NodeId::new()];
    let [acme, bolt] = ["acme", "bolt"].map(Everything::named);
    for it in [&acme, &bolt] {
        it.create(&**s, nodes[0]).await;
    }
    let another = |it: &Everything| KeyRow {
        id: countersign_core::KeyId::new(),
        ..it.key.clone()
    };
    let asked = |n: usize, row: KeyRow| {
        let (s, node, row) = (Arc::clone(s), nodes[n % 2], Box::new(row));
        tokio::spawn(async move {
            let effect = Effect::CreateKey { row, most: 4 };
            commit(&*s, node, effects([effect])).await
        })
    };
    let runs: Vec<_> = (0..24).map(|n| asked(n, another(&acme))).collect();
    let mut made = 0;
    for run in runs {
        match run.await.unwrap() {
            Ok(()) => made += 1,
            Err(CommitError::Conflict { what, .. }) => {
                assert_eq!(what, "4 keys for each tenant, and they are there");
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(made, 3);
    assert_eq!(s.count_keys(acme.id()).await.unwrap(), 4);
    // A neighbour has room of its own, and what was destroyed makes room.
    asked(0, another(&bolt)).await.unwrap().unwrap();
    let destroyed = Effect::SetKeyState {
        tenant: acme.id(),
        key: acme.key.id,
        from: KeyState::Generated,
        to: KeyState::Destroyed,
    };
    commit(&**s, nodes[0], effects([destroyed])).await.unwrap();
    asked(0, another(&acme)).await.unwrap().unwrap();
    assert!(asked(0, another(&acme)).await.unwrap().is_err());
    assert_eq!(s.count_keys(acme.id()).await.unwrap(), 4);
}

async fn claims_are_taken_once<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(s, node).await;
    let firsts = |keys: &[(usize, &str)]| Commit {
        claims: keys
            .iter()
            .map(|(item, key)| (*item, ClaimWrite::First(it.claim(key, 1))))
            .collect(),
        ..Commit::default()
    };
    let taken = |item| Err(CommitError::ClaimTaken { item });
    commit(s, node, firsts(&[(0, "a"), (1, "b")]))
        .await
        .unwrap();
    assert_eq!(commit(s, node, firsts(&[(7, "a")])).await, taken(7));
    let many = firsts(&[(3, "c"), (4, "d"), (5, "b"), (6, "e"), (8, "a")]);
    assert_eq!(commit(s, node, many).await, taken(5));
    assert_eq!(s.claim(&it.claim("c", 1).key).await.unwrap(), None);
    // The same key twice in one flush: the first has it.
    assert_eq!(
        commit(s, node, firsts(&[(1, "f"), (2, "f")])).await,
        taken(2)
    );
    // Another principal, another tenant: another claim.
    let mut other = it.claim("a", 1);
    other.key.principal = [3; 32];
    let mut theirs = it.claim("a", 1);
    theirs.key.tenant = TenantId::new();
    let both = Commit {
        claims: vec![
            (0, ClaimWrite::First(other)),
            (1, ClaimWrite::First(theirs)),
        ],
        ..Commit::default()
    };
    commit(s, node, both).await.unwrap();

    // Eight at once: one has it.
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (s, race) = (db.store().clone(), firsts(&[(0, "race")]));
            tokio::spawn(async move { commit(&*s, node, race).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(()) => won += 1,
            e => assert_eq!(e, taken(0)),
        }
    }
    assert_eq!(won, 1);
}

async fn claims_are_tried_again_and_settled<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(s, node).await;
    let claims = |claims: Vec<ClaimWrite>| Commit {
        claims: claims.into_iter().map(|c| (4, c)).collect(),
        ..Commit::default()
    };
    let first = it.claim("a", 1);
    let mut second = it.claim("a", 2);
    second.attempt = 2;
    second.expires = Micros(6_000_000);
    let settle = |row: &ClaimRow, state| ClaimWrite::Settle {
        key: row.key.clone(),
        log: row.log,
        index: row.index,
        state,
    };
    let taken = Err(CommitError::ClaimTaken { item: 4 });
    let stored = async || s.claim(&first.key).await.unwrap().unwrap();
    let again = |row: &ClaimRow| claims(vec![ClaimWrite::Again(row.clone())]);

    assert_eq!(commit(s, node, again(&second)).await, taken, "no first");
    commit(s, node, claims(vec![ClaimWrite::First(first.clone())]))
        .await
        .unwrap();
    assert_eq!(stored().await, first);
    assert_eq!(commit(s, node, again(&second)).await, taken, "in flight");
    // An outcome of another authorisation is ignored.
    let foreign = claims(vec![settle(&second, ClaimState::Unanswered)]);
    commit(s, node, foreign).await.unwrap();
    assert_eq!(stored().await, first);
    let unanswered = claims(vec![settle(&first, ClaimState::Unanswered)]);
    commit(s, node, unanswered).await.unwrap();
    assert_eq!(stored().await.state, ClaimState::Unanswered);

    let mut third = second.clone();
    third.attempt = 3;
    assert_eq!(commit(s, node, again(&third)).await, taken, "skips one");
    let mut other_body = second.clone();
    other_body.body = [9; 32];
    assert_eq!(commit(s, node, again(&other_body)).await, taken, "not it");
    commit(s, node, again(&second)).await.unwrap();
    assert_eq!(stored().await, second);
    assert_eq!(commit(s, node, again(&second)).await, taken, "twice");

    // A late outcome of the first attempt changes nothing.
    let done = |answer: &str| ClaimState::Done {
        answer: answer.to_owned(),
    };
    let late = claims(vec![settle(&first, done("late"))]);
    commit(s, node, late).await.unwrap();
    assert_eq!(stored().await, second);
    commit(s, node, claims(vec![settle(&second, done("{}"))]))
        .await
        .unwrap();
    assert_eq!(stored().await.state, done("{}"));
    // The first outcome stands: an answered claim never signs again.
    let undone = claims(vec![settle(&second, ClaimState::Unanswered)]);
    commit(s, node, undone).await.unwrap();
    assert_eq!(stored().await.state, done("{}"));
    assert_eq!(commit(s, node, again(&third)).await, taken, "answered");

    // One key several times in one flush: in order.
    let b = it.claim("b", 1);
    let mut b2 = it.claim("b", 2);
    b2.attempt = 2;
    let story = claims(vec![
        ClaimWrite::First(b.clone()),
        settle(&b, ClaimState::Unanswered),
        ClaimWrite::Again(b2.clone()),
        settle(&b2, done("b")),
    ]);
    commit(s, node, story).await.unwrap();
    let kept = s.claim(&b.key).await.unwrap().unwrap();
    assert_eq!((kept.attempt, kept.state), (2, done("b")));
}

async fn effects_conflict_by_name<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(s, node).await;
    let (id, key) = (it.id(), it.key.id);
    let nobody = TenantId::new();
    let twin = Everything::named("acme");
    let same_id = TenantRow {
        name: "acme2".parse().unwrap(),
        ..it.tenant.clone()
    };
    let mut other_token = token_facts();
    other_token.serial = "2".to_owned();
    let auditor = MemberRow {
        role: Role::Auditor,
        ..it.member.clone()
    };
    let mut no_signer = it.key.clone();
    no_signer.id = countersign_core::KeyId::new();
    no_signer.signer = "nightly".parse().unwrap();
    let unknown_key = countersign_core::KeyId::new();
    let state = |key, from| Effect::SetKeyState {
        tenant: id,
        key,
        from,
        to: KeyState::Active,
    };
    let certificate = CertificateRow {
        key: unknown_key,
        ..it.certificate.clone()
    };
    let mut grant = it.grant.clone();
    grant.signer = "nightly".parse().unwrap();
    let no_grant = GrantId::new();
    let order = OrderRow {
        key: unknown_key,
        ..it.order.clone()
    };
    let cases = [
        (
            Effect::CreateTenant(twin.tenant),
            "a tenant named acme exists".to_owned(),
        ),
        (
            Effect::CreateTenant(same_id),
            format!("a tenant with the id {id} exists"),
        ),
        (
            Effect::SetPolicy(nobody, TenantPolicy::default()),
            format!("there is no tenant {nobody}"),
        ),
        (
            Effect::SetToken(id, other_token),
            "the tenant has another token already".to_owned(),
        ),
        (
            Effect::AddMember(it.member.clone()),
            "ada of https://idp.example is admin already".to_owned(),
        ),
        (
            Effect::RemoveMember(auditor),
            "ada of https://idp.example is not auditor".to_owned(),
        ),
        (
            Effect::CreateSigner(it.signer.clone()),
            "a signer named release exists".to_owned(),
        ),
        (
            create_key(no_signer),
            "there is no signer named nightly".to_owned(),
        ),
        (create_key(it.key.clone()), format!("a key {key} exists")),
        (
            state(key, KeyState::Suspended),
            format!("key {key} is generated, not suspended"),
        ),
        (
            state(unknown_key, KeyState::Suspended),
            format!("there is no key {unknown_key}"),
        ),
        (
            Effect::PutEvidence(Box::new(EvidenceRow {
                key: unknown_key,
                ..it.evidence(&["one"])
            })),
            format!("there is no key {unknown_key}"),
        ),
        (
            Effect::SetAppraisal(id, unknown_key, String::new()),
            format!("there is no key {unknown_key}"),
        ),
        (
            Effect::InstallCertificate(certificate),
            format!("there is no key {unknown_key}"),
        ),
        (
            Effect::InstallCertificate(it.certificate.clone()),
            format!("certificate 0a is installed for key {key} already"),
        ),
        (
            Effect::PutGrant(grant),
            "there is no signer named nightly".to_owned(),
        ),
        (
            Effect::PutGrant(it.grant.clone()),
            format!("a grant {} exists", it.grant.id),
        ),
        (
            Effect::RemoveGrant(id, no_grant),
            format!("there is no grant {no_grant}"),
        ),
        (
            Effect::PutOrder(Box::new(order)),
            format!("there is no key {unknown_key}"),
        ),
        (
            Effect::UseBootstrap,
            "no bootstrap credential was ever offered".to_owned(),
        ),
    ];
    for (effect, what) in cases {
        let refused = Commit {
            effects: vec![(42, effect)],
            ..Commit::default()
        };
        assert_eq!(
            commit(s, node, refused).await,
            Err(CommitError::Conflict { item: 42, what })
        );
    }
    let version = s.tenant(id).await.unwrap().unwrap().version;
    assert_eq!(version, Everything::VERSION, "refused effects bump nothing");
}

async fn a_failing_item_leaves_nothing<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (mut log, mut key_log) = it.create(s, node).await;
    commit(
        s,
        node,
        Commit {
            opens: vec![it.open(dead(), 1)],
            ..writes([key_log.append(1)])
        },
    )
    .await
    .unwrap();
    let before = (
        s.tenant(it.id()).await.unwrap(),
        s.heads(it.id()).await.unwrap(),
        s.open_authorisations(9).await.unwrap(),
    );
    let newcomer = Everything::named("newcomer");
    // Everything a flush can hold, and one thing in it that fails: a different one each time.
    let (next_log, next_key_log) = (log.append(2), key_log.append(2));
    let flush = || {
        let mut all = newcomer.effects();
        all.push(Effect::SetPolicy(it.id(), TenantPolicy::default()));
        Commit {
            writes: vec![next_log.clone(), next_key_log.clone()],
            guards: vec![Guard {
                tenant: it.id(),
                version: Everything::VERSION,
            }],
            claims: vec![(11, ClaimWrite::First(it.claim("a", 2)))],
            opens: vec![it.open(dead(), 2)],
            closes: vec![(key_log.id, 1)],
            ..effects(all)
        }
    };
    let mut last_effect = flush();
    last_effect
        .effects
        .push((10, Effect::RemoveGrant(it.id(), GrantId::new())));
    let mut claim = flush();
    claim.claims.push((12, ClaimWrite::First(it.claim("a", 2))));
    let mut guard = flush();
    guard.guards.push(Guard {
        tenant: newcomer.id(),
        version: 0,
    });
    let mut head = flush();
    head.writes[1].epoch = 0;
    let mut close = flush();
    close.closes.push((key_log.id, 0));
    for (failing, name) in [
        (last_effect, "effect"),
        (claim, "claim"),
        (guard, "guard"),
        (head, "head"),
        (close, "close"),
    ] {
        commit(s, node, failing).await.expect_err(name);
        let after = (
            s.tenant(it.id()).await.unwrap(),
            s.heads(it.id()).await.unwrap(),
            s.open_authorisations(9).await.unwrap(),
        );
        assert_eq!(after, before, "{name}");
        assert_eq!(s.tenant(newcomer.id()).await.unwrap(), None, "{name}");
        let claim = s.claim(&it.claim("a", 2).key).await.unwrap();
        assert_eq!(claim, None, "{name}");
        check_logs(s, it.id()).await;
    }
    // Without what failed, the very same flush is written.
    commit(s, node, flush()).await.unwrap();
    assert!(s.tenant(newcomer.id()).await.unwrap().is_some());
    check_logs(s, it.id()).await;
}

async fn a_token_is_new_exactly_once<E: Empty>() {
    let db = E::empty().await;
    let s = &**db.store();
    let (a, b) = (TenantId::new(), TenantId::new());
    let racers: Vec<_> = (0..16)
        .map(|i| {
            let s = db.store().clone();
            let tenant = if i % 2 == 0 { a } else { b };
            tokio::spawn(async move { s.first_use(tenant, "iss", [7; 32], Micros(10)).await })
        })
        .collect();
    let mut new = 0;
    for racer in racers {
        new += u32::from(racer.await.unwrap().unwrap());
    }
    assert_eq!(new, 1, "across tenants too");
    assert!(s.first_use(a, "iss2", [7; 32], Micros(10)).await.unwrap());
    assert!(s.first_use(a, "iss", [8; 32], Micros(10)).await.unwrap());
    let db = db.reopen().await;
    let s = &**db.store();
    assert!(!s.first_use(a, "iss", [7; 32], Micros(10)).await.unwrap());
    assert_eq!(s.forget_expired(Micros(10)).await.unwrap(), 0);
    assert_eq!(s.forget_expired(Micros(11)).await.unwrap(), 3);
    assert!(s.first_use(a, "iss", [7; 32], Micros(10)).await.unwrap());
}

async fn open_authorisations_are_the_deads_and_end_with_their_outcome<E: Empty>() {
    let db = E::empty().await;
    let (s, node, next) = (&**db.store(), NodeId::new(), NodeId::new());
    let it = Everything::named("acme");
    let (_, mut log) = it.create(s, node).await;
    let mut with_claim = it.open(node, 2);
    with_claim.claim = Some(it.claim("a", 2).key);
    let opens = vec![it.open(node, 1), with_claim, it.open(node, 3)];
    let begin = Commit {
        opens: opens.clone(),
        ..writes([log.append(3)])
    };
    commit(s, node, begin).await.unwrap();
    // A living node's own; a dead one's are everybody's.
    assert_eq!(s.open_authorisations(9).await.unwrap(), []);
    s.leave(node).await.unwrap();
    log.epoch += 1;
    assert_eq!(s.open_authorisations(9).await.unwrap(), opens);
    assert_eq!(
        s.open_authorisations(2).await.unwrap().as_slice(),
        opens.get(..2).unwrap()
    );
    let mut outcome = |closes: &[u64]| Commit {
        closes: closes.iter().map(|i| (log.id, *i)).collect(),
        ..writes([log.append(closes.len())])
    };
    commit(s, next, outcome(&[3, 1])).await.unwrap();
    let left = s.open_authorisations(9).await.unwrap();
    assert_eq!(left.as_slice(), opens.get(1..2).unwrap());
    // A second outcome for the same authorisation would contradict the log.
    assert_eq!(
        commit(s, next, outcome(&[2, 1])).await,
        Err(CommitError::NotOpen {
            log: it.key.id.into(),
            index: 1
        })
    );
    assert_eq!(s.open_authorisations(9).await.unwrap(), left);
    check_logs(s, it.id()).await;
}

async fn a_commit_that_contradicts_itself_is_refused<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    let (log, key_log) = it.create(s, node).await;
    let good = || writes([log.clone().append(2), key_log.clone().append(2)]);
    let mut sizes = good();
    sizes.writes[1].new_size += 1;
    let mut twice = good();
    twice.writes.push(key_log.clone().append(2));
    let mut no_leaf = good();
    no_leaf.opens.push(it.open(dead(), 3));
    let mut old_leaf = good();
    old_leaf.opens.push(it.open(dead(), 0));
    let mut not_theirs = good();
    let mut open = it.open(dead(), 1);
    open.tenant = TenantId::new();
    not_theirs.opens.push(open);
    let mut no_outcome = good();
    no_outcome.writes.remove(1);
    no_outcome.closes.push((key_log.id, 0));
    let mut closed_twice = good();
    closed_twice.closes = vec![(key_log.id, 0), (key_log.id, 0)];
    let mut too_large = good();
    too_large.writes[1].old_size = u64::MAX - 2;
    too_large.writes[1].new_size = u64::MAX;
    for (commit_, name) in [
        (sizes, "sizes"),
        (twice, "twice"),
        (no_leaf, "no leaf"),
        (old_leaf, "old leaf"),
        (not_theirs, "not theirs"),
        (no_outcome, "no outcome"),
        (closed_twice, "closed twice"),
        (too_large, "too large"),
    ] {
        assert_eq!(
            commit(s, node, commit_).await,
            Err(CommitError::HeadMoved { log: key_log.id }),
            "{name}"
        );
    }
    commit(s, node, good()).await.unwrap();
    commit(s, node, Commit::default()).await.unwrap();
    check_logs(s, it.id()).await;
}

async fn what_expired_is_forgotten_and_no_more<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(s, node).await;
    let claims = (0..1200_usize).map(|i| {
        let mut row = it.claim(&format!("k{i}"), 1);
        row.expires = Micros(i as i64);
        (i, ClaimWrite::First(row))
    });
    let many = Commit {
        claims: claims.collect(),
        ..Commit::default()
    };
    commit(s, node, many).await.unwrap();
    assert_eq!(s.forget_expired(Micros(0)).await.unwrap(), 0);
    assert_eq!(s.forget_expired(Micros(1100)).await.unwrap(), 1100);
    assert_eq!(s.forget_expired(Micros(1100)).await.unwrap(), 0);
    assert_eq!(s.claim(&it.claim("k1099", 1).key).await.unwrap(), None);
    assert!(s.claim(&it.claim("k1100", 1).key).await.unwrap().is_some());
}

async fn the_operator_is_registered_once<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    assert_eq!(s.bootstrap().await.unwrap(), None);
    assert!(s.offer_bootstrap([1; 32]).await.unwrap());
    assert!(s.offer_bootstrap([2; 32]).await.unwrap(), "a restart");
    assert_eq!(s.bootstrap().await.unwrap(), Some([2; 32]));
    let register = || {
        let operator = TenantRow {
            id: OPERATOR_REALM,
            name: OPERATOR_REALM_NAME.parse().unwrap(),
            ..Everything::named("x").tenant
        };
        effects([Effect::UseBootstrap, Effect::CreateTenant(operator)])
    };
    let racers: Vec<_> = (0..4)
        .map(|_| {
            let (s, register) = (db.store().clone(), register());
            tokio::spawn(async move { commit(&*s, node, register).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(()) => won += 1,
            Err(e) => assert_eq!(
                e,
                CommitError::Conflict {
                    item: 0,
                    what: "the bootstrap credential was used before".to_owned()
                }
            ),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(s.bootstrap().await.unwrap(), None);
    assert!(!s.offer_bootstrap([3; 32]).await.unwrap());
    let db = db.reopen().await;
    assert_eq!(db.store().bootstrap().await.unwrap(), None);
    assert!(!db.store().offer_bootstrap([3; 32]).await.unwrap());
}

async fn service_keys_are_added_by_one_node<E: Empty>() {
    let db = E::empty().await;
    let s = &**db.store();
    let row = |purpose: &str, n: u8| ServiceKeyRow {
        purpose: purpose.to_owned(),
        public: vec![n],
        wrapped: vec![n, n],
        created: NOW,
        retired: (n == 2).then_some(NOW),
    };
    let (one, two) = (row("log", 1), row("log", 2));
    assert!(s.add_service_key(&one, None).await.unwrap());
    assert!(
        !s.add_service_key(&two, None).await.unwrap(),
        "made meanwhile"
    );
    assert!(s.add_service_key(&two, Some(&[1])).await.unwrap());
    assert!(!s.add_service_key(&row("log", 3), Some(&[1])).await.unwrap());
    assert!(s.add_service_key(&row("token", 1), None).await.unwrap());
    assert_eq!(s.service_keys("log").await.unwrap(), [two, one]);
    assert_eq!(s.service_keys("statement").await.unwrap(), []);
}

async fn a_flush_of_many_is_one_commit<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (&**db.store(), NodeId::new());
    let mut all = Vec::new();
    for i in 0..70 {
        let it = Everything::named(&format!("t{i}"));
        let (_, log) = it.create(s, node).await;
        all.push((it, log));
    }
    // 70 key logs: an authorisation each, then an authorisation and an outcome each.
    let mut flush = Commit::default();
    for (item, (it, log)) in all.iter_mut().enumerate() {
        flush.writes.push(log.append(1));
        flush.opens.push(it.open(dead(), 1));
        flush
            .claims
            .push((item, ClaimWrite::First(it.claim("a", 1))));
        flush.guards.push(Guard {
            tenant: it.id(),
            version: Everything::VERSION,
        });
    }
    commit(s, node, flush).await.unwrap();
    let mut flush = Commit::default();
    for (item, (it, log)) in all.iter_mut().enumerate() {
        flush.writes.push(log.append(2));
        flush.closes.push((log.id, 1));
        flush.opens.push(it.open(dead(), 3));
        flush
            .claims
            .push((item, ClaimWrite::First(it.claim("b", 3))));
        flush.claims.push((
            item,
            ClaimWrite::Settle {
                key: it.claim("a", 1).key,
                log: log.id,
                index: 1,
                state: ClaimState::Done {
                    answer: format!("{item}"),
                },
            },
        ));
    }
    commit(s, node, flush).await.unwrap();
    for (item, (it, log)) in all.iter().enumerate() {
        check_logs(s, it.id()).await;
        let a = s.claim(&it.claim("a", 1).key).await.unwrap().unwrap();
        assert_eq!(
            a.state,
            ClaimState::Done {
                answer: format!("{item}")
            }
        );
        let b = s.claim(&it.claim("b", 3).key).await.unwrap();
        assert_eq!(b, Some(it.claim("b", 3)));
        assert_eq!(s.head(it.id(), log.id).await.unwrap().unwrap().size, 4);
    }
    let open = s.open_authorisations(999).await.unwrap();
    assert_eq!(open.len(), all.len());
    assert!(open.iter().all(|o| o.index == 3));
}
