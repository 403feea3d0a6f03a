//! The filter language of everything that looks at connections and packets: `tcp and port 443 and not pod default/web-1`.
//!
//! A text is read once ([`Filter::from_str`]), names in it are replaced by addresses where they are known
//! ([`Filter::resolve`]), and then it is asked about connections and packets ([`Filter::matches`]). A connection has two
//! tuples, before and after translation: a term holds when it holds for either, so that one filter finds both sides.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Everything.
    #[default]
    All,
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One or both.
    Or(Box<Self>, Box<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// A single thing, with the column where it stands.
    Is(Term, usize),
}

/// A single thing that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// `host` and `net`: an address in a range.
    Net(Side, IpNetwork),
    /// `port`.
    Port(Side, u16),
    /// `tcp`, `udp`, `icmp`, `proto N`.
    Protocol(u8),
    /// `pod NAMESPACE/NAME`.
    Pod(String),
    /// `service NAMESPACE/NAME[:PORT]`.
    Service(String),
    /// `state WORD`.
    State(State),
    /// `dropped`.
    Dropped,
    /// What a name stands for: one of these at either end.
    Ends(Vec<End>),
}

/// At which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Either one.
    Any,
    /// `src`.
    Source,
    /// `dst`.
    Destination,
}

/// An end of connections that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None` = all.
    pub port: Option<u16>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// TCP: no answer and no data yet.
    New,
    /// Both sides have sent.
    Established,
    /// TCP: one side is done.
    Closing,
    /// TCP: both are.
    Closed,
    /// TCP: one side has broken it off.
    Reset,
    /// Not TCP: only one side has sent.
    OneWay,
}

impl State {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::New, "new"),
        (Self::Established, "established"),
        (Self::Closing, "closing"),
        (Self::Closed, "closed"),
        (Self::Reset, "reset"),
        (Self::OneWay, "one-way"),
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(state, _)| state == self).map_or("", |(_, word)| word);
        f.pad(word)
    }
}

/// Addresses and ports of a packet or a connection; ports are 0 where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source.
    pub source: (IpAddr, u16),
    /// Destination.
    pub destination: (IpAddr, u16),
}

/// What a filter is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// IP protocol number.
    pub protocol: u8,
    /// Before and after translation; twice the same without one.
    pub tuples: [Tuple; 2],
    /// Of a connection; `None` where none is known.
    pub state: Option<State>,
    /// Whether the packet was dropped.
    pub dropped: bool,
}

/// A filter that cannot be read. Its text shows the place:
///
/// ```text
/// column 9: nothing is called "prot"
///   tcp and prot 80
///           ^
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}\n  {filter}\n  {:>column$}", "^")]
pub struct FilterError {
    /// First character that is wrong, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// The whole filter.
    pub filter: String,
}

impl Filter {
    /// Replaces names: `ends` says what a [`Term::Pod`] or [`Term::Service`] stands for, `None` = nothing is called so.
    ///
    /// # Errors
    /// A name that nobody has; `text` is what the filter was read from.
    pub fn resolve(self, text: &str, ends: &dyn Fn(&Term) -> Option<Vec<End>>) -> Result<Self, FilterError> {
        let both =
            |a: Self, b: Self| Ok((Box::new(a.resolve(text, ends)?), Box::new(b.resolve(text, ends)?)));
        Ok(match self {
            Self::All => Self::All,
            Self::And(a, b) => both(*a, *b).map(|(a, b)| Self::And(a, b))?,
            Self::Or(a, b) => both(*a, *b).map(|(a, b)| Self::Or(a, b))?,
            Self::Not(a) => Self::Not(Box::new(a.resolve(text, ends)?)),
            Self::Is(term @ (Term::Pod(_) | Term::Service(_)), column) => match ends(&term) {
                Some(found) => Self::Is(Term::Ends(found), column),
                None => return Err(unknown(&term, text, column)),
            },
            Self::Is(term, column) => Self::Is(term, column),
        })
    }

    /// Whether it holds. Names that were not resolved hold for nothing.
    pub fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::All => true,
            Self::And(a, b) => a.matches(subject) && b.matches(subject),
            Self::Or(a, b) => a.matches(subject) || b.matches(subject),
            Self::Not(a) => !a.matches(subject),
            Self::Is(term, _) => term.matches(subject),
        }
    }
}

impl Term {
    fn matches(&self, subject: &Subject) -> bool {
        let at = |side: Side, holds: &dyn Fn((IpAddr, u16)) -> bool| {
            subject.tuples.iter().any(|t| match side {
                Side::Any => holds(t.source) || holds(t.destination),
                Side::Source => holds(t.source),
                Side::Destination => holds(t.destination),
            })
        };
        match self {
            Self::Net(side, net) => at(*side, &|(address, _)| net.contains(address)),
            Self::Port(side, port) => at(*side, &|(_, p)| p == *port),
            Self::Protocol(protocol) => subject.protocol == *protocol,
            Self::State(state) => subject.state == Some(*state),
            Self::Dropped => subject.dropped,
            Self::Ends(ends) => at(Side::Any, &|(address, port)| {
                ends.iter().any(|e| e.address == address && e.port.is_none_or(|p| p == port))
            }),
            Self::Pod(_) | Self::Service(_) => false,
        }
    }
}

fn unknown(term: &Term, text: &str, column: usize) -> FilterError {
    let problem = match term {
        Term::Pod(name) => format!("no pod of this node is called {name:?}"),
        Term::Service(name) => format!("no Service is called {name:?}"),
        other => format!("{other:?} is unknown"),
    };
    FilterError { column, problem, filter: text.into() }
}
