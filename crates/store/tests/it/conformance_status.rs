//! Part of the conformance suite: certificate status, revocation lists, orders that wait.

use crate::databases::Empty;
use crate::model::*;
use countersign_core::ports::revocation::*;
use countersign_core::ports::rows::*;
use countersign_core::ports::store::*;
use countersign_core::{KeyState, Micros, NodeId, OrderId};

pub fn list(name: &str) -> ListId {
    ListId {
        issuer: [5; 32],
        urls: format!("http://ca.example/{name}.crl\nhttp://ca2.example/{name}.crl"),
    }
}

pub fn status(it: &Everything, list: &ListId, not_after: i64) -> StatusRow {
    StatusRow {
        tenant: it.id(),
        key: it.key.id,
        sha256: it.certificate.sha256,
        serial: it.certificate.serial.clone(),
        not_after: Micros(not_after),
        list: Some(list.clone()),
        status: CertificateStatus::Unknown,
        since: NOW,
        checked: None,
        revoked_at: None,
        reason: None,
        warned: false,
    }
}

pub fn follow(row: &StatusRow) -> Effect {
    Effect::FollowCertificate(Box::new(row.clone()), vec![0x30, 7])
}

/// A tenant whose key signs, its certificate looked up in `list`.
async fn following(
    s: &impl Store,
    node: NodeId,
    name: &str,
    list: &ListId,
    not_after: i64,
) -> (Everything, StatusRow) {
    let mut it = Everything::named(name);
    it.key.state = KeyState::Active;
    it.create(s, node).await;
    let row = status(&it, list, not_after);
    commit(s, node, effects([follow(&row)])).await.unwrap();
    (it, row)
}

pub async fn a_status_is_followed_set_and_read_back<E: Empty>() {
    let mut db = E::empty().await;
    let node = NodeId::new();
    let id = list("a");
    let (it, row) = following(&**db.store(), node, "acme", &id, 1000).await;
    let s = db.store();
    let version = s.tenant(it.id()).await.unwrap().unwrap().version;
    assert_eq!(version, Everything::VERSION, "following moves no version");
    let known = s.certificate_status(it.id(), it.key.id).await.unwrap();
    assert_eq!(known, Some(row.clone()));
    let set = |from, to: &StatusRow| {
        effects([Effect::SetCertificateStatus {
            from,
            row: Box::new(to.clone()),
        }])
    };
    let good = StatusRow {
        status: CertificateStatus::Good,
        since: Micros(50),
        checked: Some(Micros(49)),
        ..row.clone()
    };
    commit(&**s, node, set(CertificateStatus::Unknown, &good))
        .await
        .unwrap();
    assert_eq!(
        s.tenant(it.id()).await.unwrap().unwrap().version,
        version + 1,
        "a status does"
    );
    // Another node was first, or another certificate is in use: nothing is written.
    let revoked = StatusRow {
        status: CertificateStatus::Revoked,
        revoked_at: Some(Micros(7)),
        reason: Some("keyCompromise".to_owned()),
        ..good.clone()
    };
    let other = StatusRow {
        sha256: [1; 32],
        ..revoked.clone()
    };
    for (from, to) in [
        (CertificateStatus::Unknown, &revoked),
        (CertificateStatus::Good, &other),
    ] {
        let refused = commit(&**s, node, set(from, to)).await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
    }
    assert_eq!(
        s.certificate_statuses(it.id()).await.unwrap(),
        std::slice::from_ref(&good)
    );
    commit(&**s, node, set(CertificateStatus::Good, &revoked))
        .await
        .unwrap();
    db = db.reopen().await;
    let s = db.store();
    let known = s.certificate_status(it.id(), it.key.id).await.unwrap();
    assert_eq!(known, Some(revoked));
    // Another tenant's is none.
    let twin = Everything::named("twin");
    twin.create(&**s, node).await;
    assert_eq!(
        s.certificate_status(twin.id(), it.key.id).await.unwrap(),
        None
    );
    assert_eq!(s.certificate_statuses(twin.id()).await.unwrap(), []);
    // A new certificate begins anew.
    let renewed = StatusRow {
        sha256: [2; 32],
        since: Micros(90),
        ..row
    };
    commit(&**s, node, effects([follow(&renewed)]))
        .await
        .unwrap();
    let known = s.certificate_status(it.id(), it.key.id).await.unwrap();
    assert_eq!(known, Some(renewed));
}

pub async fn a_list_is_claimed_once_and_never_goes_back<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (db.store(), NodeId::new());
    let id = list("a");
    following(&**s, node, "acme", &id, 1000).await;
    let first = s.revocation_list(&id).await.unwrap().unwrap();
    assert_eq!(first.certificate, [0x30, 7]);
    assert!(first.next_poll > NOW, "soon, not at once");
    assert_eq!((first.good, first.this_update), (None, None));
    assert_eq!(s.revocation_list(&list("b")).await.unwrap(), None);
    assert_eq!(s.lists_due(NOW, 9).await.unwrap(), []);
    let due = s.lists_due(first.next_poll, 9).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&first));
    let until = Micros(first.next_poll.0 + 100);
    assert!(s.claim_list(&id, first.next_poll, until).await.unwrap());
    assert!(!s.claim_list(&id, first.next_poll, until).await.unwrap());
    assert_eq!(s.lists_due(first.next_poll, 9).await.unwrap(), []);
    let good = |at, this_update, number: &[u8], next| ListPolled::Good {
        at: Micros(at),
        this_update: Micros(this_update),
        number: Some(number.to_vec()),
        next_poll: Micros(next),
    };
    let keep = async |polled: &ListPolled| {
        s.list_polled(&id, polled).await.unwrap();
        s.revocation_list(&id).await.unwrap().unwrap()
    };
    let kept = keep(&good(10, 5, &[1, 2], 500)).await;
    assert_eq!(
        (kept.good, kept.this_update, kept.next_poll),
        (Some(Micros(10)), Some(Micros(5)), Micros(500))
    );
    assert_eq!(kept.number, Some(vec![1, 2]));
    // A slower node with an older list changes nothing.
    assert_eq!(keep(&good(11, 4, &[9], 900)).await, kept);
    let problem = ListPolled::Problem {
        why: "the server is away".to_owned(),
        next_poll: Micros(600),
    };
    let troubled = keep(&problem).await;
    assert_eq!(troubled.problem.as_deref(), Some("the server is away"));
    assert_eq!((troubled.good, troubled.number), (kept.good, kept.number));
    assert_eq!(keep(&good(20, 5, &[1, 2], 700)).await.problem, None);
    // Somebody else's certificate of the same CA brings the list forward, and never back.
    following(&**s, node, "second", &id, 1000).await;
    let now = s.revocation_list(&id).await.unwrap().unwrap();
    assert_eq!(now.next_poll, Micros(700).min(first.next_poll));
    assert_eq!(now.good, Some(Micros(20)));
}

pub async fn certificates_are_walked_in_the_order_of_their_ends<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (db.store(), NodeId::new());
    let (a, b) = (list("a"), list("b"));
    let mut rows = Vec::new();
    for (name, id, end) in [
        ("t1", &a, 300),
        ("t2", &a, 100),
        ("t3", &b, 200),
        ("t4", &a, 200),
        ("t5", &a, 100),
    ] {
        rows.push(following(&**s, node, name, id, end).await);
    }
    let keys = |found: &[StatusRow]| found.iter().map(|r| r.key).collect::<Vec<_>>();
    let key = |n: usize| rows[n].1.key;
    // Two of one end stand in the order of their keys, which sort by age.
    let of_a = s.listed(&a, Micros(0), None, 9).await.unwrap();
    assert_eq!(keys(&of_a), [key(1), key(4), key(3), key(0)]);
    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let page = s.listed(&a, Micros(0), after, 1).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.not_after, last.key));
        walked.extend(keys(&page));
    }
    assert_eq!(walked, keys(&of_a));
    // What has ended is not walked through any more.
    let of_a = s.listed(&a, Micros(150), None, 9).await.unwrap();
    assert_eq!(keys(&of_a), [key(3), key(0)]);
    let ending = s.ending(Micros(150), Micros(200), None, 9).await.unwrap();
    assert_eq!(keys(&ending), [key(2), key(3)]);
    // Suspended keys are followed, retired ones are not.
    let to = |n: usize, from, to| Effect::SetKeyState {
        tenant: rows[n].0.id(),
        key: rows[n].1.key,
        from,
        to,
    };
    let moves = [
        to(1, KeyState::Active, KeyState::Suspended),
        to(3, KeyState::Active, KeyState::Retired),
        to(2, KeyState::Active, KeyState::Compromised),
    ];
    commit(&**s, node, effects(moves)).await.unwrap();
    let of_a = s.listed(&a, Micros(0), None, 9).await.unwrap();
    assert_eq!(keys(&of_a), [key(1), key(4), key(0)]);
    let ending = s.ending(Micros(0), Micros(200), None, 9).await.unwrap();
    assert_eq!(keys(&ending), [key(1), key(4)]);
    assert_eq!(s.unlisted(9).await.unwrap(), []);
    // An end is told once.
    let (it, row) = &rows[4];
    let mark = || effects([Effect::MarkEnding(it.id(), row.key, row.sha256)]);
    commit(&**s, node, mark()).await.unwrap();
    let again = commit(&**s, node, mark()).await.unwrap_err();
    assert!(matches!(again, CommitError::Conflict { .. }), "{again}");
    let known = s.certificate_status(it.id(), row.key).await.unwrap();
    assert!(known.unwrap().warned);
    assert_eq!(
        s.tenant(it.id()).await.unwrap().unwrap().version,
        Everything::VERSION
    );
}

pub async fn submitted_orders_wait_for_one_node<E: Empty>() {
    let db = E::empty().await;
    let (s, node) = (db.store(), NodeId::new());
    let it = Everything::named("acme");
    it.create(&**s, node).await;
    let submitted = OrderRow {
        id: OrderId::new(),
        state: OrderState::Submitted,
        reference: Some("r".to_owned()),
        next_poll: Some(Micros(100)),
        ..it.order.clone()
    };
    let put = |o: &OrderRow| effects([Effect::PutOrder(Box::new(o.clone()))]);
    commit(&**s, node, put(&submitted)).await.unwrap();
    let due = async |now| s.orders_due(Micros(now), 9).await.unwrap();
    assert_eq!(due(99).await, []);
    assert_eq!(due(100).await, std::slice::from_ref(&submitted));
    let (tenant, id) = (it.id(), submitted.id);
    let claim = async |seen, until| {
        s.claim_order(tenant, id, Micros(seen), Micros(until))
            .await
            .unwrap()
    };
    assert!(claim(100, 150).await);
    assert!(!claim(100, 150).await);
    assert_eq!(due(149).await, []);
    s.order_waits(tenant, id, Some(Micros(120)), Some("later".to_owned()))
        .await
        .unwrap();
    let now = due(120).await.remove(0);
    assert_eq!(now.problem.as_deref(), Some("later"));
    assert_eq!(now.next_poll, Some(Micros(120)));
    // Not asked any more, but still there.
    s.order_waits(tenant, id, None, None).await.unwrap();
    assert_eq!(due(i64::MAX).await, []);
    // What was decided meanwhile stays decided.
    let installed = OrderRow {
        state: OrderState::Installed,
        next_poll: None,
        ..submitted
    };
    commit(&**s, node, put(&installed)).await.unwrap();
    s.order_waits(tenant, id, Some(Micros(1)), Some("late".to_owned()))
        .await
        .unwrap();
    assert!(!claim(100, 150).await);
    assert_eq!(s.order(tenant, id).await.unwrap(), Some(installed));
    let twin = Everything::named("twin");
    twin.create(&**s, node).await;
    assert_eq!(s.order(twin.id(), id).await.unwrap(), None);
}
