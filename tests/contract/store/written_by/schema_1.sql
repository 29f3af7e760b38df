-- The ledger as schema 1 was written from its first commit (a626606) to the last of its release (0625225):
-- dumped from a file that the code of either made, which are the same byte for byte.
BEGIN TRANSACTION;
CREATE TABLE address (
    address TEXT PRIMARY KEY, eni_id TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
    container_id TEXT, ifname TEXT, last_uid TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "address" VALUES('10.0.16.1','eni-1','free',0.0,NULL,NULL,'');
INSERT INTO "address" VALUES('10.0.16.11','eni-1','assigned',200.5,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','uid-web');
INSERT INTO "address" VALUES('10.0.16.12','eni-1','free',180.0,NULL,NULL,'uid-gone');
INSERT INTO "address" VALUES('10.0.16.13','eni-1','frozen',150.0,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','eth0','uid-db');
INSERT INTO "address" VALUES('10.0.16.14','eni-4','releasing',160.0,NULL,NULL,'');
INSERT INTO "address" VALUES('2001:db8:10:1::b','eni-1','assigned',200.5,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','uid-web');
CREATE TABLE attachment (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL,
    uid TEXT NOT NULL, netns TEXT NOT NULL, host_link TEXT NOT NULL, eni_id TEXT NOT NULL,
    ipv4 TEXT, ipv6 TEXT, state TEXT NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (container_id, ifname)) WITHOUT ROWID;
INSERT INTO "attachment" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','eth0','default','web-0','uid-web','/run/netns/web','cali0123456789a','eni-1','10.0.16.11','2001:db8:10:1::b','ready',201.25);
INSERT INTO "attachment" VALUES('dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','eth0','shop','db-0','uid-db','','cali0123456789b','eni-1','10.0.16.13',NULL,'lost',151.0);
CREATE TABLE eni (
    eni_id TEXT PRIMARY KEY, mac TEXT NOT NULL, vswitch_id TEXT NOT NULL, primary_ip TEXT NOT NULL,
    state TEXT NOT NULL, since REAL NOT NULL, cidr TEXT, gateway TEXT, cidr_v6 TEXT, gateway_v6 TEXT,
    reason TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "eni" VALUES('eni-1','00:16:3e:00:00:01','vsw-1','10.0.16.1','serving',101.0,'10.0.16.0/20','10.0.31.253','2001:db8:10:1::/64','2001:db8:10:1:ffff:ffff:ffff:fffd','');
INSERT INTO "eni" VALUES('eni-2','00:16:3e:00:00:02','vsw-1','10.0.16.2','frozen',102.0,NULL,NULL,NULL,NULL,'metadata does not show it on this instance');
INSERT INTO "eni" VALUES('eni-3','00:16:3e:00:00:03','vsw-1','10.0.16.3','attaching',103.0,NULL,NULL,NULL,NULL,'');
INSERT INTO "eni" VALUES('eni-4','00:16:3e:00:00:04','vsw-1','10.0.16.4','releasing',104.0,NULL,NULL,NULL,NULL,'');
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "fact" VALUES('boot_id','b-1');
INSERT INTO "fact" VALUES('probe','7.5');
CREATE TABLE operation (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, since REAL NOT NULL, eni_id TEXT, vswitch_id TEXT,
    security_groups TEXT NOT NULL, ipv4_count INTEGER NOT NULL, ipv6_count INTEGER NOT NULL,
    addresses TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "operation" VALUES('t-1','create_eni',5.0,'eni-3','vsw-1','["sg-1"]',6,2,'[]');
INSERT INTO "operation" VALUES('t-2','release_eni',6.0,'eni-4',NULL,'[]',0,0,'["10.0.16.14"]');
COMMIT;
PRAGMA user_version=1;
