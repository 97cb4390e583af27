//! Tags: whatever comes back, each loan ends once, and for its borrower.
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use calisto::abi::ingress::INGRESS_BUFS;
use calisto::dataplane::loans::{Loans, Returned};
use calisto::ids::{BufIdx, ProcSlot};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
enum Op {
    Lend { buf: u8, to: u8 },
    Broadcast { buf: u8, to: Vec<u8> },
    Return { tag: Tag, by: u8 },
    Leave { who: u8 },
}

/// What a runtime says it returns.
#[derive(Debug, Arbitrary)]
enum Tag {
    /// The tag of a loan, an old one perhaps.
    Issued(u8),
    /// Nearly that.
    Bent(u8, u64),
    Any(u64),
}

thread_local! {
    static LOANS: RefCell<Loans> = RefCell::default();
}

/// Slots at the ends of the group's words.
fn slot(n: u8) -> ProcSlot {
    ProcSlot([0, 1, 63, 64, 511, 1023][usize::from(n) % 6])
}

/// Few buffers, the last one among them.
fn buf(n: u8) -> BufIdx {
    BufIdx([0, 1, 2, 3, 64, INGRESS_BUFS - 1][usize::from(n) % 6])
}

/// Buffers that are lent: the tag, and who holds them.
type Model = BTreeMap<BufIdx, (u64, BTreeSet<ProcSlot>)>;

fuzz_target!(|ops: Vec<Op>| {
    LOANS.with_borrow_mut(|loans| {
        let mut model = Model::new();
        let mut issued = Vec::new();
        for op in &ops {
            step(loans, &mut model, &mut issued, op);
        }
        for who in 0..6 {
            leave(loans, &mut model, slot(who));
        }
        assert!(model.is_empty(), "what was lent comes back");
    });
});

fn step(loans: &mut Loans, model: &mut Model, issued: &mut Vec<u64>, op: &Op) {
    match op {
        Op::Lend { buf: b, to } => {
            let (b, to) = (buf(*b), slot(*to));
            // The port hands out free buffers only.
            if model.contains_key(&b) {
                return;
            }
            let tag = loans.lend(b, to);
            assert!(!issued.contains(&tag), "a tag twice");
            issued.push(tag);
            model.insert(b, (tag, BTreeSet::from([to])));
        }
        Op::Broadcast { buf: b, to } => {
            let b = buf(*b);
            if model.contains_key(&b) {
                return;
            }
            let tag = loans.open_group(b);
            assert!(!issued.contains(&tag), "a tag twice");
            issued.push(tag);
            let to: BTreeSet<ProcSlot> = to.iter().map(|n| slot(*n)).collect();
            for to in &to {
                loans.join_group(b, *to);
            }
            assert_eq!(loans.close_group(b), to.is_empty());
            if !to.is_empty() {
                model.insert(b, (tag, to));
            }
        }
        Op::Return { tag, by } => {
            let nth = |n: &u8| issued.get(usize::from(*n)).copied().unwrap_or(0);
            let tag = match tag {
                Tag::Issued(n) => nth(n),
                Tag::Bent(n, by) => nth(n) ^ by,
                Tag::Any(tag) => *tag,
            };
            let by = slot(*by);
            let held = model.iter().find(|(_, (held, _))| *held == tag);
            let held = held.map(|(b, _)| *b);
            let want = match held {
                Some(b) => give_back(model, b, by),
                None => Returned::Bad,
            };
            assert_eq!(loans.take_back(tag, by), want);
        }
        Op::Leave { who } => leave(loans, model, slot(*who)),
    }
}

/// What becomes of a loan that `by` returns.
fn give_back(model: &mut Model, b: BufIdx, by: ProcSlot) -> Returned {
    let Some((_, holders)) = model.get_mut(&b) else {
        return Returned::Bad;
    };
    if !holders.remove(&by) {
        return Returned::Bad;
    }
    if !holders.is_empty() {
        return Returned::Shared;
    }
    model.remove(&b);
    Returned::Free(b)
}

/// Everything that `who` holds is taken back, and nothing else.
fn leave(loans: &mut Loans, model: &mut Model, who: ProcSlot) {
    for n in 0..6 {
        let b = buf(n);
        assert_eq!(loans.reclaim(b, who), give_back(model, b, who));
    }
}
