//! One manifest file: YAML documents (JSON is YAML too) to objects.
//!
//! Two passes over the text. The first reads only what each document is; the second reads each into its own type straight
//! from the parser, so that an error still knows line and field, also inside a List.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::objects::{EndpointSlice, Node, Service};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The YAML, or a field in it, is wrong.
    #[error("{}: {source}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Field, reason, line and column.
        source: serde_norway::Error,
    },
    /// Not text.
    #[error("{}: is not UTF-8 text from byte {valid} on", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Bytes that are text.
        valid: usize,
    },
    /// YAML, but no Kubernetes object.
    #[error("{}: document {document} has no apiVersion and kind; only Kubernetes objects belong here", path.display())]
    NoKind {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        document: usize,
    },
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the file's order.
    pub objects: Vec<Object>,
    /// Kinds the agent has no use for, as "apiVersion/kind".
    pub skipped: BTreeSet<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// core/v1.
    Node(Arc<Node>),
    /// core/v1.
    Service(Arc<Service>),
    /// discovery.k8s.io/v1.
    EndpointSlice(Arc<EndpointSlice>),
}

impl Object {
    /// "Service default/web".
    pub(super) fn title(&self) -> String {
        match self {
            Self::Node(n) => format!("Node {}", n.metadata.name),
            Self::Service(s) => format!("Service {}", s.metadata.object_name()),
            Self::EndpointSlice(s) => format!("EndpointSlice {}", s.metadata.object_name()),
        }
    }
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// [`ManifestError`] names file, field, line and column of the first fault.
pub fn parse(path: &Path, text: &[u8]) -> Result<Parsed, ManifestError> {
    let text = std::str::from_utf8(text)
        .map_err(|e| ManifestError::NotText { path: path.into(), valid: e.valid_up_to() })?;
    let yaml = |source| ManifestError::Yaml { path: path.into(), source };
    let mut parsed = Parsed::default();
    let mut shapes = Vec::new();
    for (i, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let header = Option::<Header>::deserialize(document).map_err(yaml)?;
        let shape = match header {
            None => Shape::Nothing,
            Some(header) => header
                .shape(&mut parsed.skipped)
                .ok_or_else(|| ManifestError::NoKind { path: path.into(), document: i + 1 })?,
        };
        shapes.push(shape);
    }
    for (document, shape) in serde_norway::Deserializer::from_str(text).zip(&shapes) {
        ObjectSeed { shape, objects: &mut parsed.objects }.deserialize(document).map_err(yaml)?;
    }
    Ok(parsed)
}

/// What a document is.
enum Shape {
    Node,
    Service,
    EndpointSlice,
    List(Vec<Shape>),
    Nothing,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    items: Option<Items>,
}

/// Other kinds may have an `items` that is no list of objects.
#[derive(Deserialize)]
#[serde(untagged)]
enum Items {
    Objects(Vec<Header>),
    Other(IgnoredAny),
}

impl Header {
    /// `None` when it is no Kubernetes object.
    fn shape(self, skipped: &mut BTreeSet<String>) -> Option<Shape> {
        let (api_version, kind) = (self.api_version?, self.kind?);
        Some(match (api_version.as_str(), kind.as_str()) {
            ("v1", "Node") => Shape::Node,
            ("v1", "Service") => Shape::Service,
            ("discovery.k8s.io/v1", "EndpointSlice") => Shape::EndpointSlice,
            ("v1", "List") => match self.items {
                Some(Items::Objects(items)) => {
                    Shape::List(items.into_iter().map(|h| h.shape(skipped)).collect::<Option<_>>()?)
                }
                Some(Items::Other(_)) | None => Shape::Nothing,
            },
            _ => {
                skipped.insert(format!("{api_version}/{kind}"));
                Shape::Nothing
            }
        })
    }
}

/// Reads one object of a known shape.
struct ObjectSeed<'a> {
    shape: &'a Shape,
    objects: &'a mut Vec<Object>,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let object = match self.shape {
            Shape::Node => Object::Node(Arc::new(Node::deserialize(deserializer)?)),
            Shape::Service => Object::Service(Arc::new(Service::deserialize(deserializer)?)),
            Shape::EndpointSlice => {
                Object::EndpointSlice(Arc::new(EndpointSlice::deserialize(deserializer)?))
            }
            Shape::List(shapes) => {
                return deserializer.deserialize_map(ListVisitor { shapes, objects: self.objects });
            }
            Shape::Nothing => return IgnoredAny::deserialize(deserializer).map(drop),
        };
        self.objects.push(object);
        Ok(())
    }
}

/// Reads `{kind: List, items: [...]}`: as a map of fields, then as the sequence in `items`.
struct ListVisitor<'a> {
    shapes: &'a [Shape],
    objects: &'a mut Vec<Object>,
}

impl<'de> DeserializeSeed<'de> for ListVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List of Kubernetes objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { shapes, objects } = self;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                map.next_value_seed(ListVisitor { shapes, objects: &mut *objects })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for shape in self.shapes {
            items.next_element_seed(ObjectSeed { shape, objects: &mut *self.objects })?;
        }
        Ok(())
    }
}
