//! Who vouches for a partition's key: the maker, and the owner of the card.
//!
//! A partition has a certificate from its card, which the maker certified, and one from the card's
//! owner, for the same key. The maker's says that the card is genuine, the owner's who runs it.

use super::card_name::{self, CardName};
use super::wrapping::Cloud;
use crate::anchors::marvell::{GOOGLE_OWNER, LS1, LS2};
use crate::anchors::{Anchor, Role};
use crate::certificate::Certificate;
use crate::chain::{Candidate, Chain, End, Place, Shape, walk};
use crate::key::PublicKey;
use crate::result::{Check, Outcome, Rule};
use crate::verify::{Context, PartId};

const GOOGLE: &str =
    "Google Cloud KMS, Verifying attestations, and its verify_attestation_chains.py";
const AZURE: &str =
    "Microsoft, azure-managed-hsm-key-attestation, marvell_validate_key_attestation.py";

const MAKER: Rule = Rule::confirmed(
    "marvell-maker-chain",
    "the partition's key is certified by a card, and the card by a pinned root of Marvell; the names \
     are those of a partition and a card",
    GOOGLE,
);
const OWNER: Rule = Rule::confirmed(
    "marvell-owner-chain",
    "the same partition key is certified by the owner of the card, under a pinned owner's root",
    GOOGLE,
);
const OWNER_CARD: Rule = Rule::confirmed(
    "marvell-owner-card",
    "the owner certified the very card key that the maker certified",
    GOOGLE,
);
const OWNER_AZURE: Rule = Rule::documented(
    "marvell-owner-chain",
    "who runs the card is proved by a pinned owner's root; a root inside the evidence has no weight",
    AZURE,
);
const ONE_CARD: Rule = Rule::confirmed(
    "marvell-one-card",
    "all certificates name one card, and one partition of it",
    GOOGLE,
);

/// What the chains gave.
pub(super) struct Vouched<'a> {
    pub(super) checks: Vec<Check>,
    /// The maker's chain, as far as it goes.
    pub(super) maker: Option<Chain<'a>>,
    /// The owner's chain, if it reached an anchor.
    pub(super) owner: Option<Chain<'a>>,
    /// The name of the card, from the maker's partition certificate, if its chain holds.
    pub(super) card: Option<CardName<'a>>,
    /// The parts that were used.
    pub(super) used: Vec<PartId>,
}

/// Follows both chains of the partition key `key` through `candidates`.
pub(super) fn vouch<'a>(
    cx: &'a Context<'_>,
    candidates: &[Candidate<'a>],
    key: &PublicKey,
    cloud: Option<Cloud>,
) -> Vouched<'a> {
    let mut leaves: Vec<Candidate<'a>> = Vec::new();
    for c in candidates {
        let same = c.certificate.key().is_ok_and(|k| k == *key);
        if same && !leaves.iter().any(|l| l.certificate == c.certificate) {
            leaves.push(*c);
        }
    }
    let owner = |leaf: &Candidate<'a>| owner_chain(cx, leaf.certificate, candidates);
    let (owned, others): (Vec<Candidate<'a>>, Vec<Candidate<'a>>) =
        leaves.iter().partition(|l| owner(l).anchor().is_some());
    let owner_leaf = owned.first().map(|leaf| (*leaf, owner(leaf)));
    let owners = owner_leaf.as_ref().and_then(|(_, c)| c.anchor());
    // Whoever vouches as the owner does not vouch as the maker too: what the owner's root signed
    // cannot stand in the maker's chain, even where a verifier added that root for all lines.
    let made: Vec<Candidate<'a>> = candidates
        .iter()
        .filter(|c| owners.is_none_or(|o| !is_signed_by(cx, c.certificate, candidates, o)))
        .copied()
        .collect();
    let maker = best(others.iter().flat_map(|leaf| {
        [LS1, LS2].map(|line| (*leaf, maker_chain(cx, leaf.certificate, &made, line)))
    }));
    let maker_leaf = maker
        .as_ref()
        .filter(|(_, c)| c.anchor().is_some())
        .map(|(l, _)| *l);
    // Without an owner's chain that holds, the rest tells why; what the maker certified is not the
    // owner's failure.
    let owner = owner_leaf.or_else(|| {
        let rest = others
            .iter()
            .filter(|l| maker_leaf.is_none_or(|m| m.certificate != l.certificate));
        best(rest.map(|leaf| (*leaf, owner(leaf))))
    });
    let mut used = Vec::new();
    let mut checks = vec![match &maker {
        Some((_, chain)) => chain.check(&MAKER),
        None => MAKER.outcome(
            Outcome::Unknown,
            "no certificate of the maker for the partition's key is at hand",
        ),
    }];
    let maker_card = maker.as_ref().and_then(|(_, c)| c.above.first().copied());
    let (of_owner, card_part) = owner_checks(
        cx,
        candidates,
        owner.as_ref().map(|(_, c)| c),
        maker_card,
        cloud,
    );
    checks.extend(of_owner);
    used.extend(card_part);
    let anchored = |pair: Option<(Candidate<'a>, Chain<'a>)>| {
        pair.filter(|(_, chain)| chain.anchor().is_some())
    };
    let (maker_ok, owner_ok) = (anchored(maker.clone()), anchored(owner));
    let mut named: Vec<&Certificate> = Vec::new();
    for (leaf, chain) in [&maker_ok, &owner_ok].into_iter().flatten() {
        used.extend(leaf.part);
        used.extend(&chain.used);
        named.push(leaf.certificate);
        named.extend(chain.above.iter().copied());
    }
    checks.extend(one_card(&named));
    Vouched {
        checks,
        card: maker_ok
            .as_ref()
            .and_then(|(leaf, _)| name_of(leaf.certificate)),
        used,
        maker: maker.map(|(_, c)| c),
        owner: owner_ok.map(|(_, c)| c),
    }
}

/// The checks where not even the partition's key is known.
pub(super) fn without_key(cloud: Option<Cloud>) -> Vec<Check> {
    let seen = "the partition's key is not known";
    let mut checks = vec![MAKER.outcome(Outcome::Unknown, seen)];
    if cloud != Some(Cloud::Azure) {
        checks.push(OWNER.outcome(Outcome::Unknown, seen));
    }
    checks
}

/// The chain that says most. One that reaches an anchor wins; else what is at hand and wrong counts
/// before what is missing, so that a failure cannot hide behind a gap.
fn best<'a>(
    chains: impl Iterator<Item = (Candidate<'a>, Chain<'a>)>,
) -> Option<(Candidate<'a>, Chain<'a>)> {
    chains.min_by_key(|(_, chain)| match chain.end {
        End::Anchor(_) => 0,
        End::Unpinned(_) => 1,
        End::Broken(_) => 2,
        End::Missing(_) => 3,
    })
}

/// Partition <- card <- root: exactly two certificates. The card's is X.509 v1, without any
/// extension, so its place and its name are all that make it an authority.
fn maker_chain<'a>(
    cx: &'a Context<'_>,
    leaf: &'a Certificate,
    candidates: &[Candidate<'a>],
    line: &str,
) -> Chain<'a> {
    let shape = Shape {
        line,
        places: &[
            Place {
                role: "partition",
                fits: &is_partition,
                signed_by: None,
            },
            Place {
                role: "card",
                fits: &is_card,
                signed_by: Some(Role::Root),
            },
        ],
        allow_sha1: false,
        at: Some(cx.at),
    };
    walk(cx.work, leaf, candidates, cx.anchors, &shape)
}

/// Partition <- owner's root.
fn owner_chain<'a>(
    cx: &'a Context<'_>,
    leaf: &'a Certificate,
    candidates: &[Candidate<'a>],
) -> Chain<'a> {
    owned(cx, leaf, candidates, "partition", &is_partition)
}

fn owned<'a>(
    cx: &'a Context<'_>,
    leaf: &'a Certificate,
    candidates: &[Candidate<'a>],
    role: &'static str,
    fits: &dyn Fn(&Certificate) -> Result<(), String>,
) -> Chain<'a> {
    let shape = Shape {
        line: GOOGLE_OWNER,
        places: &[Place {
            role,
            fits,
            signed_by: Some(Role::Root),
        }],
        allow_sha1: false,
        at: Some(cx.at),
    };
    walk(cx.work, leaf, candidates, cx.anchors, &shape)
}

/// Whether `anchor` itself signed `c`.
fn is_signed_by<'a>(
    cx: &'a Context<'_>,
    c: &'a Certificate,
    candidates: &[Candidate<'a>],
    anchor: &Anchor,
) -> bool {
    let chain = owned(cx, c, candidates, "certificate", &|_| Ok(()));
    chain.anchor().is_some_and(|a| a.key() == anchor.key())
}

fn owner_checks<'a>(
    cx: &'a Context<'_>,
    candidates: &[Candidate<'a>],
    chain: Option<&Chain<'a>>,
    maker_card: Option<&Certificate>,
    cloud: Option<Cloud>,
) -> (Vec<Check>, Option<PartId>) {
    let anchor = chain.and_then(Chain::anchor);
    if cloud == Some(Cloud::Azure) && anchor.is_none() {
        // Anybody can make the self-signed certificate that the JSON brings as the owner's root.
        let seen =
            "no owner's root is pinned for Azure Managed HSM: who runs the card is not known";
        return (vec![OWNER_AZURE.outcome(Outcome::NotChecked, seen)], None);
    }
    let Some(chain) = chain else {
        let seen = "no certificate of the owner for the partition's key is at hand";
        return (vec![OWNER.outcome(Outcome::Unknown, seen)], None);
    };
    let mut checks = vec![chain.check(&OWNER)];
    let mut part = None;
    if let Some(owner) = anchor {
        let (check, used) = owner_card(cx, candidates, maker_card, owner);
        checks.push(check);
        part = used;
    }
    (checks, part)
}

fn owner_card<'a>(
    cx: &'a Context<'_>,
    candidates: &[Candidate<'a>],
    maker_card: Option<&Certificate>,
    owner: &Anchor,
) -> (Check, Option<PartId>) {
    let unknown = |seen: &str| (OWNER_CARD.outcome(Outcome::Unknown, seen), None);
    let Some(card) = maker_card else {
        return unknown("the maker's certificate of the card is not at hand");
    };
    let cards: Vec<&Candidate<'a>> = candidates
        .iter()
        .filter(|c| name_of(c.certificate) == name_of(card))
        .filter(|c| is_card(c.certificate).is_ok())
        .filter(|c| is_signed_by(cx, c.certificate, candidates, owner))
        .collect();
    let same =
        |c: &&&Candidate<'a>| matches!((c.certificate.key(), card.key()), (Ok(a), Ok(b)) if a == b);
    match cards.iter().find(same) {
        Some(c) => {
            let check = OWNER_CARD.check(true, c.certificate.subject().to_string());
            (check, c.part)
        }
        None if cards.is_empty() => unknown("the owner's certificate of the card is not at hand"),
        None => {
            let seen = "the owner certified another key for a card of that name";
            (OWNER_CARD.check(false, seen), None)
        }
    }
}

fn one_card(named: &[&Certificate]) -> Option<Check> {
    let names: Vec<CardName<'_>> = named.iter().filter_map(|c| name_of(c)).collect();
    let first = names.first()?;
    let mut partitions = names.iter().filter_map(|n| n.partition);
    let partition = partitions.next();
    let one = names
        .iter()
        .all(|n| n.serial == first.serial && n.mode == first.mode)
        && partitions.all(|p| Some(p) == partition);
    let seen: Vec<_> = named
        .iter()
        .filter_map(|c| c.subject().common_name())
        .collect();
    Some(ONE_CARD.check(one, seen.join("; ")))
}

fn name_of(c: &Certificate) -> Option<CardName<'_>> {
    card_name::parse(c.subject().common_name()?)
}

/// Whether some certificate names itself as this maker's cards and partitions do.
pub(super) fn names_a_card(c: &Certificate) -> bool {
    name_of(c).is_some()
}

fn is_partition(c: &Certificate) -> Result<(), String> {
    match name_of(c) {
        Some(n) if n.partition.is_some() => not_an_authority(c),
        _ => Err("its name is not that of a partition, HSM:<serial>:PARTN:<n>".to_owned()),
    }
}

fn is_card(c: &Certificate) -> Result<(), String> {
    match name_of(c) {
        Some(n) if n.partition.is_none() => not_an_authority(c),
        _ => Err("its name is not that of a card, HSM:<serial>".to_owned()),
    }
}

/// Neither the maker nor the owner marks these certificates as authorities: v1 and v3 without
/// basicConstraints, or with CA:FALSE.
fn not_an_authority(c: &Certificate) -> Result<(), String> {
    match c.basic_constraints() {
        Ok(None | Some((false, _))) => Ok(()),
        Ok(Some((true, _))) => Err("it is marked as an authority, which these are not".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}
