//! Kinds of the Gateway API as the API server has them, but only what matters here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::api::{ApiResource, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The group of all its kinds.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    GatewayClass,
    Gateway,
    TcpRoute,
    UdpRoute,
    ReferenceGrant,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }

    /// All of them, as the log calls them.
    pub(crate) const fn all(self) -> &'static str {
        match self {
            Self::GatewayClass => "GatewayClasses",
            Self::Gateway => "Gateways",
            Self::TcpRoute => "TCPRoutes",
            Self::UdpRoute => "UDPRoutes",
            Self::ReferenceGrant => "ReferenceGrants",
        }
    }

    /// Its versions that say the same, the best one first. An API server has those of the release
    /// of the Gateway API that was installed.
    pub(crate) const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::GatewayClass | Self::Gateway => &["v1"],
            Self::TcpRoute | Self::UdpRoute => &["v1", "v1alpha2"],
            Self::ReferenceGrant => &["v1", "v1beta1"],
        }
    }

    pub(crate) fn resource(self, version: &str) -> ApiResource {
        ApiResource {
            group: GROUP.to_owned(),
            version: version.to_owned(),
            api_version: format!("{GROUP}/{version}"),
            kind: self.name().to_owned(),
            plural: self.all().to_lowercase(),
        }
    }
}

/// The protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// `None`: `lb` does not balance it.
    pub(crate) fn called(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its routes.
    pub(crate) const fn route(self) -> Kind {
        match self {
            Self::Tcp => Kind::TcpRoute,
            Self::Udp => Kind::UdpRoute,
        }
    }

    pub(crate) const fn of_route(kind: Kind) -> Self {
        match kind {
            Kind::UdpRoute => Self::Udp,
            _ => Self::Tcp,
        }
    }
}

pub(crate) type GatewayClass = Object<ClassSpec, ClassStatus>;
pub(crate) type Gateway = Object<GatewaySpec, GatewayStatus>;
/// Of TCP or of UDP, which look alike.
pub(crate) type Route = Object<RouteSpec, RouteStatus>;
pub(crate) type ReferenceGrant = Object<GrantSpec, NoStatus>;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClassSpec {
    pub controller_name: String,
    pub parameters_ref: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ClassStatus {
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct GatewaySpec {
    pub gateway_class_name: String,
    pub listeners: Vec<Listener>,
    pub addresses: Vec<Address>,
    pub infrastructure: Option<Infrastructure>,
}

/// What is asked of whatever is made for a Gateway.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Infrastructure {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub parameters_ref: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Listener {
    pub name: String,
    pub port: i32,
    pub protocol: String,
    pub allowed_routes: AllowedRoutes,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct AllowedRoutes {
    pub namespaces: RouteNamespaces,
    /// Empty: those of the listener's protocol.
    pub kinds: Vec<RouteKind>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct RouteNamespaces {
    /// `None`: `Same`.
    pub from: Option<String>,
    /// `None` selects nothing, an empty one everything.
    pub selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RouteKind {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub kind: String,
}

/// Of the specification and of the status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Address {
    /// `None`: `IPAddress`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// `None`: any address of that type.
    pub value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GatewayStatus {
    pub addresses: Vec<Address>,
    pub conditions: Vec<Condition>,
    pub listeners: Vec<ListenerStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListenerStatus {
    pub name: String,
    pub supported_kinds: Vec<RouteKind>,
    pub attached_routes: i32,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteSpec {
    pub parent_refs: Vec<ParentRef>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ParentRef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub backend_refs: Vec<BackendRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct BackendRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: String,
    pub port: Option<i32>,
    pub weight: Option<i32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RouteStatus {
    pub parents: Vec<ParentStatus>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ParentStatus {
    pub parent_ref: ParentRef,
    pub controller_name: String,
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct GrantSpec {
    pub from: Vec<GrantFrom>,
    pub to: Vec<GrantTo>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct GrantFrom {
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct GrantTo {
    pub group: String,
    pub kind: String,
    /// `None`: all of the kind.
    pub name: Option<String>,
}

/// Of kinds without a status.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct NoStatus {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        use kube::Resource as _;
        let path = |kind: Kind, version| Route::url_path(&kind.resource(version), Some("shop"));
        assert_eq!(
            path(Kind::TcpRoute, "v1alpha2"),
            "/apis/gateway.networking.k8s.io/v1alpha2/namespaces/shop/tcproutes"
        );
        assert!(path(Kind::GatewayClass, "v1").ends_with("/gatewayclasses"));
        assert!(path(Kind::ReferenceGrant, "v1beta1").ends_with("/referencegrants"));
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let listener = serde_json::json!({ "name": "a", "port": 80, "protocol": "TCP" });
        let gateway = serde_json::json!({
            "metadata": { "name": "edge", "namespace": "shop" },
            "spec": { "gatewayClassName": "lb", "listeners": [listener] }
        });
        let gateway: Gateway = serde_json::from_value(gateway).expect("a Gateway");
        assert_eq!(gateway.spec.listeners[0].allowed_routes, AllowedRoutes::default());
        assert!(gateway.status.is_none());
    }
}
