//! From text to [`Filter`]: words, then a grammar of one look ahead.
//!
//! ```text
//! filter = all { "or" all }      all = one { ["and"] one }      one = "not" one | "(" filter ")" | term
//! term   = [side] ("host" ADDRESS | "net" RANGE | "port" PORT | ADDRESS | RANGE)
//!        | "tcp" | "udp" | "icmp" | "sctp" | "proto" NUMBER
//!        | "pod" NAME | "service" NAME | "state" STATE | "dropped"      side = "src" | "dst"
//! ```

use std::str::FromStr;

use ipnetwork::IpNetwork;

use super::{Filter, FilterError, Side, State, Term};

/// Longest text that is read: filters come over a socket.
const LONGEST: usize = 4096;
/// Deepest nesting that is followed, so that no text uses up the stack.
const DEEPEST: usize = 64;

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader { text, words: words(text), at: 0, depth: 0 };
        if text.len() > LONGEST {
            return Err(reader.error_at(1, format!("longer than {LONGEST} bytes")));
        }
        if reader.words.is_empty() {
            return Ok(Self::All);
        }
        let filter = reader.filter()?;
        match reader.peek() {
            None => Ok(filter),
            Some(word) => Err(reader.error(format!("{word:?} is one too many"))),
        }
    }
}

/// Words and parentheses with their columns.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut begin: Option<(usize, usize)> = None;
    for (column, (at, c)) in (1..).zip(text.char_indices()) {
        let ends = c.is_whitespace() || c == '(' || c == ')';
        if ends && let Some((column, from)) = begin.take() {
            words.push((column, &text[from..at]));
        }
        if c == '(' || c == ')' {
            words.push((column, &text[at..=at]));
        } else if !ends && begin.is_none() {
            begin = Some((column, at));
        }
    }
    if let Some((column, from)) = begin {
        words.push((column, &text[from..]));
    }
    words
}

struct Reader<'a> {
    text: &'a str,
    words: Vec<(usize, &'a str)>,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn filter(&mut self) -> Result<Filter, FilterError> {
        let mut left = self.all()?;
        while self.take_if("or") {
            left = Filter::Or(Box::new(left), Box::new(self.all()?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Filter, FilterError> {
        let mut left = self.one()?;
        loop {
            let joined = self.take_if("and");
            match self.peek() {
                None | Some("or" | ")") if !joined => return Ok(left),
                _ => left = Filter::And(Box::new(left), Box::new(self.one()?)),
            }
        }
    }

    fn one(&mut self) -> Result<Filter, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error(format!("nested deeper than {DEEPEST}")));
        }
        let one = if self.take_if("not") {
            Filter::Not(Box::new(self.one()?))
        } else if self.take_if("(") {
            let inner = self.filter()?;
            if !self.take_if(")") {
                return Err(self.error("a closing parenthesis is missing".into()));
            }
            inner
        } else {
            let column = self.column();
            Filter::Is(self.term()?, column)
        };
        self.depth -= 1;
        Ok(one)
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let side = match self.peek() {
            Some("src") => Side::Source,
            Some("dst") => Side::Destination,
            _ => Side::Any,
        };
        if side != Side::Any {
            self.at += 1;
        }
        let word = self.peek().ok_or_else(|| self.error("something is missing here".into()))?;
        if let Ok(net) = word.parse() {
            self.at += 1;
            return Ok(Term::Net(side, net));
        }
        self.at += 1;
        let sided = match word {
            "host" | "net" => Some(Term::Net(side, self.value("an address or range, as in 10.244.0.0/16")?)),
            "port" => Some(Term::Port(side, self.value("a port, 0 to 65535")?)),
            _ => None,
        };
        if let Some(term) = sided {
            return Ok(term);
        }
        self.at -= 1;
        if side != Side::Any {
            return Err(self.error("host, net, port or an address must follow src and dst".into()));
        }
        self.at += 1;
        self.unsided(word)
    }

    fn unsided(&mut self, word: &str) -> Result<Term, FilterError> {
        Ok(match word {
            "icmp" => Term::Protocol(1),
            "tcp" => Term::Protocol(6),
            "udp" => Term::Protocol(17),
            "sctp" => Term::Protocol(132),
            "proto" => Term::Protocol(self.value("an IP protocol's number")?),
            "pod" => Term::Pod(self.name("a pod, as in default/web-1")?),
            "service" => Term::Service(self.name("a Service, as in default/web:http")?),
            "state" => Term::State(self.state()?),
            "dropped" => Term::Dropped,
            _ => {
                self.at -= 1;
                return Err(self.error(format!(
                    "{word:?} is unknown; there are host, net, port, tcp, udp, icmp, proto, pod, service, state, dropped, \
                     src, dst, and, or, not"
                )));
            }
        })
    }

    fn value<T: FromStr>(&mut self, what: &str) -> Result<T, FilterError> {
        let value = self.peek().and_then(|word| word.parse().ok());
        let value = value.ok_or_else(|| self.error(format!("here must be {what}")))?;
        self.at += 1;
        Ok(value)
    }

    fn name(&mut self, what: &str) -> Result<String, FilterError> {
        match self.peek() {
            Some(word) if word.contains('/') => {
                self.at += 1;
                Ok(word.into())
            }
            _ => Err(self.error(format!("here must be {what}"))),
        }
    }

    fn state(&mut self) -> Result<State, FilterError> {
        let found = State::ALL.iter().find(|(_, word)| Some(*word) == self.peek());
        let (state, _) = found.ok_or_else(|| {
            let words: Vec<_> = State::ALL.iter().map(|(_, word)| *word).collect();
            self.error(format!("here must be one of {}", words.join(", ")))
        })?;
        self.at += 1;
        Ok(*state)
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|(_, word)| *word)
    }

    fn take_if(&mut self, word: &str) -> bool {
        let takes = self.peek() == Some(word);
        self.at += usize::from(takes);
        takes
    }

    /// Of the next word; behind the last one at the end.
    fn column(&self) -> usize {
        let end = || self.text.trim_end().chars().count() + 1;
        self.words.get(self.at).map_or_else(end, |(column, _)| *column)
    }

    fn error(&self, problem: String) -> FilterError {
        self.error_at(self.column(), problem)
    }

    fn error_at(&self, column: usize, problem: String) -> FilterError {
        FilterError { column, problem, filter: self.text.into() }
    }
}

/// `IpNetwork` reads single addresses too; this keeps the fact in one place.
const _: fn(&str) -> Result<IpNetwork, ipnetwork::IpNetworkError> = IpNetwork::from_str;
