// The name of the load balancer leads to the address in NLB_ADDRESS.
const dns = require("node:dns");

const lookUp = dns.lookup;
dns.lookup = (host, ...rest) => lookUp(host.endsWith(".amazonaws.com") ? process.env.NLB_ADDRESS : host, ...rest);
