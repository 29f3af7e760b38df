-- The ledger as schema 2 is written by its first commit.
BEGIN TRANSACTION;
CREATE TABLE address (
    address TEXT PRIMARY KEY, eni_id TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
    container_id TEXT, ifname TEXT, last_uid TEXT NOT NULL, prefix TEXT) WITHOUT ROWID;
INSERT INTO "address" VALUES('10.0.16.1','eni-1','free',0.0,NULL,NULL,'',NULL);
INSERT INTO "address" VALUES('10.0.16.11','eni-1','assigned',200.5,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','uid-web',NULL);
INSERT INTO "address" VALUES('10.0.16.12','eni-1','free',180.0,NULL,NULL,'uid-gone',NULL);
INSERT INTO "address" VALUES('10.0.16.13','eni-1','frozen',150.0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','eth0','uid-db',NULL);
INSERT INTO "address" VALUES('10.0.16.14','eni-4','releasing',160.0,NULL,NULL,'',NULL);
INSERT INTO "address" VALUES('2001:db8:10:1::b','eni-1','assigned',200.5,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','uid-web',NULL);
CREATE TABLE attachment (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, netns TEXT NOT NULL, host_link TEXT NOT NULL, eni_id TEXT NOT NULL,
    ipv4 TEXT, ipv6 TEXT, state TEXT NOT NULL, since REAL NOT NULL, mode TEXT NOT NULL DEFAULT 'policy_route', uplink_kind TEXT NOT NULL DEFAULT 'shared_eni', uplink_vlan INTEGER NOT NULL DEFAULT 0, made REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (container_id, ifname)) WITHOUT ROWID;
INSERT INTO "attachment" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','default','web-0','uid-web','/run/netns/web','cali0123456789a','eni-1','10.0.16.11','2001:db8:10:1::b','ready',201.25,'policy_route','shared_eni',0,201.25);
INSERT INTO "attachment" VALUES('dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','eth0','shop','db-0','uid-db','','cali0123456789b','eni-1','10.0.16.13',NULL,'lost',151.0,'policy_route','shared_eni',0,151.0);
CREATE TABLE compatible (since INTEGER NOT NULL);
INSERT INTO "compatible" VALUES(2);
CREATE TABLE eni (
    eni_id TEXT PRIMARY KEY, mac TEXT NOT NULL, vswitch_id TEXT NOT NULL, primary_ip TEXT NOT NULL,
    state TEXT NOT NULL, since REAL NOT NULL, cidr TEXT, gateway TEXT, cidr_v6 TEXT, gateway_v6 TEXT,
    reason TEXT NOT NULL, kind TEXT NOT NULL DEFAULT 'secondary', parent TEXT, vlan INTEGER NOT NULL DEFAULT 0, security_groups TEXT NOT NULL DEFAULT '[]') WITHOUT ROWID;
INSERT INTO "eni" VALUES('eni-1','00:16:3e:00:00:01','vsw-1','10.0.16.1','serving',101.0,'10.0.16.0/20','10.0.31.253','2001:db8:10:1::/64','2001:db8:10:1:ffff:ffff:ffff:fffd','','secondary',NULL,0,'[]');
INSERT INTO "eni" VALUES('eni-2','00:16:3e:00:00:02','vsw-1','10.0.16.2','frozen',102.0,NULL,NULL,NULL,NULL,'metadata does not show it on this instance','secondary',NULL,0,'[]');
INSERT INTO "eni" VALUES('eni-3','00:16:3e:00:00:03','vsw-1','10.0.16.3','attaching',103.0,NULL,NULL,NULL,NULL,'','secondary',NULL,0,'[]');
INSERT INTO "eni" VALUES('eni-4','00:16:3e:00:00:04','vsw-1','10.0.16.4','releasing',104.0,NULL,NULL,NULL,NULL,'','secondary',NULL,0,'[]');
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "fact" VALUES('boot_id','b-1');
INSERT INTO "fact" VALUES('probe','7.5');
CREATE TABLE history (
    id INTEGER PRIMARY KEY, address TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, container_id TEXT NOT NULL, ifname TEXT NOT NULL, mode TEXT NOT NULL,
    eni_id TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL, ended TEXT NOT NULL);
CREATE TABLE operation (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, since REAL NOT NULL, eni_id TEXT, vswitch_id TEXT,
    security_groups TEXT NOT NULL, ipv4_count INTEGER NOT NULL, ipv6_count INTEGER NOT NULL,
    addresses TEXT NOT NULL, eni_kind TEXT NOT NULL DEFAULT 'secondary') WITHOUT ROWID;
INSERT INTO "operation" VALUES('t-1','create_eni',5.0,'eni-3','vsw-1','["sg-1"]',6,2,'[]','secondary');
INSERT INTO "operation" VALUES('t-2','release_eni',6.0,'eni-4',NULL,'[]',0,0,'["10.0.16.14"]','secondary');
CREATE INDEX history_of_address ON history (address);
COMMIT;
PRAGMA user_version=2;
